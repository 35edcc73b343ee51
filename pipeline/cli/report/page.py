"""The report as one self-contained HTML page, without scripts."""

import base64
import io
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.cli.report import plots
from pipeline.cli.report.summary import (
    SHOWN,
    UNCERTAIN,
    Results,
    SourceSummary,
    TrackSummary,
    clock,
    in_view,
    number,
    percent,
    shares_text,
)
from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec, parse_sources
from stages.capture.spec import CaptureSettings
from stages.display.record import Box

MOST_PLOTTED: Final = 24
"""Tracks of a source with plots, those seen longest; the table has all."""

Pictures = Mapping[tuple[str, int], bytes]
"""JPEG files by source and track."""


def make_page(results: Results, pictures: Pictures) -> str:
    """Return the page. pictures: of those tracks that get one."""
    summary = results.summary
    name = escape(Path(summary.results).name)
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    ids = itertools.count(1)
    sources = "".join(_source(results, source, pictures, ids) for source in summary.sources)
    warnings = "".join(f"<p>{escape(warning)}</p>" for warning in results.warnings)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Emotions in {name}</title>\n<style>\n{style}</style>\n"
        f"<header><h1>Emotions in {name}</h1>{warnings}{_key()}</header>\n<main>{sources}</main>\n"
        f"<footer><p>The figures are of smoothed values. A face is <em>uncertain</em> "
        f"{_rule(summary.uncertain_below)}.</p>"
        "<p>The model names expressions, by what people see in pictures of faces. "
        "An expression is not a feeling.</p></footer>\n</html>\n"
    )


def _rule(uncertain_below: float | None) -> str:
    if uncertain_below is None:
        return "where the results mark it"
    return f"where its confidence is below {percent(uncertain_below)}"


def _key() -> str:
    items = "".join(f"<li>{_chip(name)}{name}</li>" for name in SHOWN)
    return f'<ul class="key" aria-label="colours">{items}</ul>'


def _chip(name: str, style: str = "") -> str:
    if name == UNCERTAIN:
        return f'<i class="uncertain" style="{style}"></i>'
    return f'<i style="background: var(--{name});{style}"></i>'


def _source(results: Results, source: SourceSummary, pictures: Pictures, ids: Iterator[int]) -> str:
    series = results.series[source.source]
    end = source.start_s, source.end_s
    parts = [f"<section><h2>{escape(source.source)}</h2>", _facts(source)]
    if source.tracks:
        seen = sorted(source.tracks, key=lambda track: -track.seen_s)[:MOST_PLOTTED]
        plotted = [track for track in source.tracks if track in seen]
        plot = plots.timeline(series, [track.track for track in plotted], end, source.pictures)
        more = f" The {MOST_PLOTTED} that were seen longest." if len(source.tracks) > MOST_PLOTTED else ""
        caption = f"What each face showed; hatched where it was uncertain.{more}"
        parts += ["<h3>Who was in view</h3>", _figure(plot, caption, ids)]
        parts += [_table(source, plotted), "<h3>Each face over time</h3>"]
        for track in plotted:
            plot = plots.emotions(series.tracks[track.track], series.step_s, end, source.pictures)
            picture = pictures.get((source.source, track.track))
            parts.append(_track(source, track, picture, _figure(plot, "", ids)))
    if series.lost:
        plot = plots.losses(series, end, source.pictures)
        parts += ["<h3>Frames that were not handled</h3>", _losses(source), _figure(plot, "", ids)]
    return "".join(parts) + "</section>\n"


def _facts(source: SourceSummary) -> str:
    """Return the main figures of a source."""
    lost = [f"{number(sum(part.values()))} {name}" for name, part in _lost(source) if part]
    facts = [
        ("length", clock(source.end_s - source.start_s), ""),
        ("frames", number(source.captured), ", ".join([f"{number(source.ok)} ok", *lost])),
        ("faces", number(len(source.tracks)), f"{number(source.faces)} in all frames"),
        ("without a face", number(source.frames_without_face), f"of {number(source.ok)} frames"),
    ]
    if source.shares:
        shown = max(source.shares, key=lambda name: source.shares[name])
        facts.append(("shown most", shown, f"{percent(source.shares[shown])} of all faces"))
    if source.latency_ms:
        text = f"{source.latency_ms['p50']:.0f} ms"
        facts.append(("latency p50", text, f"p95 {source.latency_ms['p95']:.0f} ms"))
    if source.pictures:
        facts = facts[1:]  # the frames are the pictures
    items = "".join(
        f"<div><dt>{name}</dt><dd>{value}{f'<small>{small}</small>' if small else ''}</dd></div>"
        for name, value, small in facts
    )
    return f'<dl class="facts">{items}</dl>'


def _lost(source: SourceSummary) -> list[tuple[str, dict[str, int]]]:
    return [("dropped", source.dropped), ("failed", source.failed)]


def _table(source: SourceSummary, first: list[TrackSummary]) -> str:
    """Return the table of all tracks; those after the `first` ones are folded."""
    others = [track for track in source.tracks if track not in first]
    if not others:
        return _rows(source, first)
    more = f"<details><summary>{number(len(others))} more</summary>{_rows(source, others)}</details>"
    return _rows(source, first) + more


def _rows(source: SourceSummary, tracks: list[TrackSummary]) -> str:
    rows = "".join(
        f"<tr><td>{track.track}</td><td>{in_view(track, source.pictures)}</td>"
        f'<td class="number">{number(track.frames)}</td>'
        f"<td>{shares_text(track, without=UNCERTAIN)}{_bar(track)}</td>"
        f'<td class="number">{percent(track.mean_confidence)}</td>'
        f'<td class="number">{percent(track.shares[UNCERTAIN])}</td></tr>'
        for track in tracks
    )
    heads = "<th>face<th>in view<th class=number>frames<th>emotions<th class=number>mean confidence"
    return f'<div class="wide"><table><tr>{heads}<th class=number>uncertain</tr>{rows}</table></div>'


def _bar(track: TrackSummary) -> str:
    parts = (_chip(name, f" width: {100 * share:.2f}%") for name, share in track.shares.items() if share)
    return f'<div class="share" aria-hidden="true">{"".join(parts)}</div>'


def _track(source: SourceSummary, track: TrackSummary, picture: bytes | None, figure: str) -> str:
    image = ""
    if picture is not None:
        data = base64.b64encode(picture).decode()
        image = f'<img src="data:image/jpeg;base64,{data}" alt="face {track.track}, {track.emotion}">'
    line = f"{in_view(track, source.pictures)}; {shares_text(track)}"
    return (
        f'<div class="track">{image}<div><h4>Face {track.track}</h4>'
        f'<p class="soft">{line}</p>{figure}</div></div>'
    )


def _losses(source: SourceSummary) -> str:
    rows = "".join(
        f'<tr><td>{status}</td><td>{escape(reason)}</td><td class="number">{number(count)}</td></tr>'
        for status, part in _lost(source)
        for reason, count in part.items()
    )
    return f"<table><tr><th>outcome<th>reason<th class=number>frames</tr>{rows}</table>"


def _figure(svg: str, caption: str, ids: Iterator[int]) -> str:
    """Return a plot as a figure, with ids that are unique on the page."""
    own = f"p{next(ids)}-"
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{own}", svg)
    text = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure><div class="wide">{svg}</div>{text}</figure>'


SIDE_PX: Final = 192
MARGIN: Final = 1.35
"""Of the longer side of the box: some hair and chin around it."""

Wanted = dict[int, list[tuple[int, Box]]]
"""Tracks and boxes by the frame that they are cut from."""


def cut_faces(results: Results, clips: list[str]) -> dict[tuple[str, int], bytes]:
    """Return a JPEG file for each track of the clips' sources, by source and track.

    It is of a frame in which the face shows its most frequent emotion, is large, and its emotion certain.
    Raises UserError for a clip that can't be read, or is not a source of the results.
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
    from stages.capture.reader import (
        SourceFailed,
        open_reader,  # which loads OpenCV
    )

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
        pass  # frames after that have no picture
    finally:
        reader.close()
    return files


def _jpeg(image: NDArray[np.uint8], box: Box) -> bytes:
    """Return the square round a face of an image, BGR, as a JPEG file; black beyond the image."""
    x, y, width, height = box
    side = MARGIN * max(width, height)
    left, top = x + (width - side) / 2, y + (height - side) / 2
    whole = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    area = (round(left), round(top), round(left + side), round(top + side))
    file = io.BytesIO()
    whole.crop(area).resize((SIDE_PX, SIDE_PX)).save(file, "JPEG", quality=85)
    return file.getvalue()
