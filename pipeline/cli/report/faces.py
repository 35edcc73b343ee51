"""One picture a track, cut out of the clip that the results are of."""

import io
from collections import defaultdict
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.cli.report.summary import SHOWN, Box, Results
from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec, parse_sources
from stages.capture.spec import CaptureSettings

SIDE_PX: Final = 192
MARGIN: Final = 1.35
"""Of the longer side of the box: some hair and chin around it."""

Wanted = dict[int, list[tuple[int, Box]]]
"""Tracks and boxes by the frame that they are cut from."""


def cut_faces(results: Results, clips: list[str]) -> dict[tuple[str, int], bytes]:
    """Return a JPEG file for each track of the clips' sources, by source and track.

    Each is cut where the face shows its most frequent emotion, large and sure. Raises UserError for a clip
    that can't be read, or is none of the results' sources.
    """
    pictures: dict[tuple[str, int], bytes] = {}
    for spec in parse_sources(clips):
        if spec.kind == "live":
            raise UserError(f"--faces {spec.name}: expected the file that was analysed, found a live source")
        if spec.name not in results.series:
            known = ", ".join(results.series)
            raise UserError(
                f"--faces {spec.text}: {results.summary.results} has no source {spec.name!r}, but {known}"
            )
        for track, file in _cut(spec, _wanted(results, spec.name)).items():
            pictures[spec.name, track] = file
    return pictures


def _wanted(results: Results, source: str) -> Wanted:
    wanted: Wanted = defaultdict(list)
    (summary,) = (each for each in results.summary.sources if each.source == source)
    for track in summary.tracks:
        sighting = results.series[source].tracks[track.track].best[SHOWN.index(track.emotion)]
        wanted[sighting.frame].append((track.track, sighting.box))
    return wanted


def _cut(spec: SourceSpec, wanted: Wanted) -> dict[int, bytes]:
    from stages.capture.open import open_reader  # which loads OpenCV
    from stages.capture.reader import SourceFailed

    files: dict[int, bytes] = {}
    reader = open_reader(spec, CaptureSettings())
    try:
        for frame in range(max(wanted, default=-1) + 1):
            picture = reader.read()
            if picture is None:
                break
            if picture.image is not None:
                files |= {track: _jpeg(picture.image, box) for track, box in wanted.get(frame, ())}
    except SourceFailed:
        pass  # what is missing has no picture, as the run had none
    finally:
        reader.close()
    return files


def _jpeg(image: NDArray[np.uint8], box: Box) -> bytes:
    """Return the square round a face of an image, BGR, as a JPEG file; black where there is no picture."""
    x, y, width, height = box
    side = MARGIN * max(width, height)
    left, top = x + (width - side) / 2, y + (height - side) / 2
    whole = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    area = (round(left), round(top), round(left + side), round(top + side))
    file = io.BytesIO()
    whole.crop(area).resize((SIDE_PX, SIDE_PX)).save(file, "JPEG", quality=85)
    return file.getvalue()
