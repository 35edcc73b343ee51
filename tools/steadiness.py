"""`python -m tools.steadiness`: how often shown labels change, and how late a true change is shown.

Each clip runs through the whole pipeline once, and so does a video of spliced faces with known changes. Other
smoothing is computed from the same records.
"""

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import av
import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.against import Run, sides
from bench.measure import say
from pipeline.cli.resolve import choose_threshold
from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from stages.display.tracks import CLEAR_LEAD, LEAD, Smoother
from stages.stage import read_settings
from tools.measuring import run_program, table

Image = NDArray[np.uint8]

FPS: Final = 25
HOLD: Final = 50
"""Frames that each face is held: two seconds."""

JITTER_PX: Final = 1.5
NOISE: Final = 4.0
"""A held face sways by so much and gets noise of so many grey levels (standard deviation), as before a
camera: a still picture would have the same probabilities in every frame."""

SEED: Final = 0


class Change(NamedTuple):
    """A face that is replaced by one with another label, at the same place."""

    frame: int  # the first with the new face
    place_px: tuple[float, float]  # centre of the tile
    old: str
    new: str


def write_splice(mosaic: Path, path: Path, faces: int) -> list[Change]:
    """Write a lossless video at `path` whose tiles each show `faces` faces in turn; return the changes.

    `mosaic` is the video whose tiles are taken, with its labels beside it as .json; only those with a label
    that most people agree on are. Tiles change at different times. Raises UserError if the mosaic can't be
    read.
    """
    layout, labelled = _read_tiles(mosaic)
    tiles = _places(layout)
    rng = np.random.default_rng(SEED)
    sequences = [_draw(labelled, faces, rng) for _ in tiles]
    offsets = [HOLD * index // len(tiles) for index in range(len(tiles))]
    side = layout["tile"]
    shape = (
        layout["rows"] * (side + layout["gap"]) + layout["gap"],
        layout["cols"] * (side + layout["gap"]) + layout["gap"],
        3,
    )
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = shape[1], shape[0], "bgr0"
        for number in range(HOLD * faces):
            image = np.full(shape, 128, np.uint8)
            for (x, y), offset, sequence in zip(tiles, offsets, sequences, strict=True):
                face, _ = sequence[min((number + offset) // HOLD, faces - 1)]
                image[y : y + side, x : x + side] = _as_filmed(face, rng)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return [
        Change(HOLD * step - offset, (x + side / 2, y + side / 2), sequence[step - 1][1], sequence[step][1])
        for (x, y), offset, sequence in zip(tiles, offsets, sequences, strict=True)
        for step in range(1, faces)
    ]


def _read_tiles(mosaic: Path) -> tuple[dict[str, Any], list[tuple[Image, str]]]:
    """Return the layout, and the tiles, uint8 BGR, that have a consensus, with that."""
    try:
        layout = json.loads(mosaic.with_suffix(".json").read_text())
        with av.open(mosaic) as container:
            frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    except (OSError, av.FFmpegError, ValueError) as error:
        raise UserError(f"{mosaic}: can't be read with its .json: {error}") from error
    side, labelled = layout["tile"], []
    for image, labels in zip(frames, layout["consensus"], strict=True):
        for (x, y), label in zip(_places(layout), labels, strict=True):
            if label is not None:
                labelled.append((np.asarray(image[y : y + side, x : x + side], np.uint8).copy(), label))
    return layout, labelled


def _places(layout: dict[str, Any]) -> list[tuple[int, int]]:
    """Return the left upper corners of the tiles, px."""
    step, gap = layout["tile"] + layout["gap"], layout["gap"]
    return [(gap + step * c, gap + step * r) for r in range(layout["rows"]) for c in range(layout["cols"])]


def _draw(labelled: list[tuple[Image, str]], faces: int, rng: np.random.Generator) -> list[tuple[Image, str]]:
    """Return faces of which no two in a row have the same label; emotions are drawn alike, then faces."""
    emotions = sorted({label for _, label in labelled})
    drawn: list[tuple[Image, str]] = []
    while len(drawn) < faces:
        emotion = str(rng.choice([e for e in emotions if not drawn or e != drawn[-1][1]]))
        choices = [index for index, (_, label) in enumerate(labelled) if label == emotion]
        drawn.append(labelled[int(rng.choice(choices))])
    return drawn


def _as_filmed(face: Image, rng: np.random.Generator) -> Image:
    dx, dy = rng.uniform(-JITTER_PX, JITTER_PX, 2)
    moved = cv2.warpAffine(
        face,
        np.array([[1, 0, dx], [0, 1, dy]], np.float32),
        (face.shape[1], face.shape[0]),
        borderMode=cv2.BORDER_REFLECT,
    )
    noise = rng.normal(0, NOISE, face.shape[:2])[..., None]
    return np.asarray(np.clip(moved + noise, 0, 255), np.uint8)


LONGEST_GAP_S: Final = 0.5
"""Frames of a track that are further apart are not compared."""


class Seen(NamedTuple):
    """A face of a frame."""

    frame: int
    time_s: float
    track: int
    centre_px: tuple[float, float]
    own: str  # the emotion by this frame alone
    shown: str  # the emotion by its track
    uncertain: bool


class Steadiness(NamedTuple):
    """For a clip: seconds of all tracks together, and changes of the shown label a second."""

    seconds: float
    own: float  # by each frame alone
    smoothed: float
    labelled: float  # with `uncertain` as a label of its own
    uncertain: float  # share of the faces


class Delays(NamedTuple):
    """Of true changes: seconds from the first frame whose own emotion is the new one until it is shown."""

    changes: int  # that the model sees: before and after, most frames' own emotion is the true one
    new_tracks: int  # of which the face got a new number, so that nothing had to be forgotten
    never: int  # not shown while the face was held
    median_s: float
    p90_s: float
    p95_s: float
    longest_s: float


class _Face(msgspec.Struct):
    track: int
    box: tuple[float, float, float, float]
    probabilities: dict[str, float]


class _Record(msgspec.Struct):
    frame: int
    time_s: float
    status: str
    faces: list[_Face]


def read_faces(results: Path, smoother: Smoother) -> list[Seen]:
    """Return the faces of a .jsonl file, with the labels that another smoothing would have shown."""
    decoder = msgspec.json.Decoder(_Record)
    seen = []
    for line in results.read_bytes().splitlines():
        record = decoder.decode(line)
        if record.status != "ok":
            continue
        rows = [[face.probabilities[emotion] for emotion in EMOTIONS] for face in record.faces]
        shown = smoother.update(record.time_s, [face.track for face in record.faces], rows)
        for face, row, smoothed in zip(record.faces, rows, shown, strict=True):
            x, y, width, height = face.box
            centre = (x + width / 2, y + height / 2)
            own = EMOTIONS[int(np.argmax(row))]
            seen.append(
                Seen(
                    record.frame,
                    record.time_s,
                    face.track,
                    centre,
                    own,
                    smoothed.emotion,
                    smoothed.uncertain,
                )
            )
    return seen


def steadiness(faces: Sequence[Seen]) -> Steadiness:
    """Return how often the shown label changes."""
    last: dict[int, Seen] = {}
    seconds, own, smoothed, labelled = 0.0, 0, 0, 0
    for face in faces:
        before = last.get(face.track)
        last[face.track] = face
        if before is None or face.time_s - before.time_s > LONGEST_GAP_S:
            continue
        seconds += face.time_s - before.time_s
        own += face.own != before.own
        smoothed += face.shown != before.shown
        labels = [one.shown if not one.uncertain else "uncertain" for one in (before, face)]
        labelled += labels[0] != labels[1]
    spent = max(seconds, 1e-9)
    uncertain = sum(face.uncertain for face in faces) / max(len(faces), 1)
    return Steadiness(seconds, own / spent, smoothed / spent, labelled / spent, uncertain)


def delays(faces: Sequence[Seen], changes: Sequence[Change], reach_px: float) -> Delays:
    """Return how late the true changes are shown; a face within `reach_px` of a tile's centre is on it."""
    places: dict[tuple[float, float], list[Seen]] = defaultdict(list)
    centres = {change.place_px for change in changes}
    for face in faces:
        for centre in centres:
            if np.hypot(face.centre_px[0] - centre[0], face.centre_px[1] - centre[1]) <= reach_px:
                places[centre].append(face)
    found, never, new_tracks, counted = [], 0, 0, 0
    for change in changes:
        mine = places[change.place_px]
        before = [face for face in mine if change.frame - HOLD <= face.frame < change.frame]
        after = [face for face in mine if change.frame <= face.frame < change.frame + HOLD]
        if not (_mostly(before, change.old) and _mostly(after, change.new)):
            continue
        if after[0].track != before[-1].track:
            new_tracks += 1
            continue
        counted += 1
        first = next(face.frame for face in after if face.own == change.new)
        shown = next((face.frame for face in after if face.shown == change.new), None)
        if shown is None:
            never += 1
        found.append(((change.frame + HOLD if shown is None else shown) - first) / FPS)
    values = np.percentile(found or [np.nan], (50, 90, 95, 100))
    return Delays(counted, new_tracks, never, *(float(value) for value in values))


def _mostly(faces: Sequence[Seen], emotion: str) -> bool:
    """Return whether the model gives more than half of a held face's frames this emotion."""
    return sum(face.own == emotion for face in faces) > HOLD / 2


MOSAIC: Final = Path("../shared/video/mosaic_public.avi")
OTHERS: Final = (0.0, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Time constants, s, beside the setting."""

FACES: Final = 20
"""Faces that each tile of the spliced video shows: 19 changes."""

REACH_PX: Final = 40.0

NO_LEAD: Final = 2.0
"""No emotion leads by so much: changes come by the slow mean alone."""


def run(source: str, folder: Path) -> Path:
    """Return the results file of a run of the pipeline over `source`. Raises UserError if it fails."""
    results = folder / f"{Path(source).stem}.jsonl"
    say(f"{source}: running")
    with Run(sides(None, [], [])[0], ["--source", source, "--results", str(results)]) as under_way:
        under_way.wait()
    return results


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run everything, and print the tables."""
    display = choose_threshold(read_settings())
    with tempfile.TemporaryDirectory(prefix="steadiness-") as name:
        folder = Path(name)
        results = {source: run(source, folder) for source in args.clips}
        changes = write_splice(args.mosaic, folder / "splice.mkv", args.faces)
        spliced = run(str(folder / "splice.mkv"), folder)

        def seen(path: Path, smoothing_s: float, clear_lead: float = args.clear_lead) -> list[Seen]:
            threshold = display.uncertain_below
            return read_faces(path, Smoother(smoothing_s, threshold, lead=args.lead, clear_lead=clear_lead))

        clips = {s: steadiness(seen(path, display.smoothing_s))._asdict() for s, path in results.items()}
        others = []
        for clear_lead in (args.clear_lead, NO_LEAD):
            for smoothing_s in sorted({*OTHERS, display.smoothing_s})[clear_lead == NO_LEAD :]:
                rates = [steadiness(seen(path, smoothing_s, clear_lead)) for path in results.values()]
                faces = seen(spliced, smoothing_s, clear_lead)
                row = {"smoothing_s": smoothing_s, "clear_lead": clear_lead, **over_all(rates)}
                row["spliced_labelled"] = steadiness(faces).labelled
                others.append(row | delays(faces, changes, REACH_PX)._asdict())
    document = {
        "smoothing_s": display.smoothing_s,
        "lead": args.lead,
        "clear_lead": args.clear_lead,
        "uncertain_below": display.uncertain_below,
        "clips": clips,
        "spliced": others,
    }
    show(document)
    return document


def over_all(rates: Sequence[Steadiness]) -> dict[str, float]:
    """Return the changes a second over all clips."""
    seconds = max(sum(rate.seconds for rate in rates), 1e-9)
    return {
        "changes_a_second": sum(rate.smoothed * rate.seconds for rate in rates) / seconds,
        "labelled_a_second": sum(rate.labelled * rate.seconds for rate in rates) / seconds,
    }


def show(document: dict[str, Any]) -> None:
    """Print the tables of a document."""
    header = (
        "clip",
        "seconds of faces",
        "changes a second, each frame",
        "smoothed",
        "with uncertain",
        "uncertain",
    )
    rows = [
        (
            Path(source).name,
            f"{row['seconds']:.0f}",
            f"{row['own']:.2f}",
            f"{row['smoothed']:.2f}",
            f"{row['labelled']:.2f}",
            f"{row['uncertain']:.0%}",
        )
        for source, row in document["clips"].items()
    ]
    print(table(header, rows))
    delay_header = (
        "smoothing_s",
        "clear lead",
        "changes a second, all clips",
        "with uncertain",
        "spliced",
        "never shown",
        "median",
        "p90",
        "p95",
    )
    delay_rows = [
        (
            f"{row['smoothing_s']:g}",
            "none" if row["clear_lead"] == NO_LEAD else f"{row['clear_lead']:g}",
            f"{row['changes_a_second']:.2f}",
            f"{row['labelled_a_second']:.2f}",
            f"{row['spliced_labelled']:.2f}",
            f"{row['never']} of {row['changes']}",
            *(f"{1000 * row[key]:.0f} ms" for key in ("median_s", "p90_s", "p95_s")),
        )
        for row in document["spliced"]
    ]
    print(f"\n{table(delay_header, delay_rows)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.steadiness", description=__doc__)
    clips = [
        str(MOSAIC.parent / name)
        for name in ("one_face_expressions.mp4", "one_face_hand_over_mouth.mp4", "three_faces_walking.mp4")
    ]
    parser.add_argument(
        "clips", nargs="*", default=[*clips, "demo"], help="sources (default: the shared clips and demo)"
    )
    parser.add_argument("--mosaic", type=Path, default=MOSAIC, help="faces to splice, with their .json")
    parser.add_argument("--faces", type=int, default=FACES, help=f"spliced, of each tile (default {FACES})")
    parser.add_argument("--lead", type=float, default=LEAD, help=f"of a new emotion (default {LEAD})")
    parser.add_argument(
        "--clear-lead", type=float, default=CLEAR_LEAD, help=f"in the recent mean (default {CLEAR_LEAD})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return run_program(measure, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
