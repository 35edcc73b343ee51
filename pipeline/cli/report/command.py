"""`python run.py report`: what a finished run has found, as a table, a page and JSON."""

import sys
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.report.summary import (
    UNCERTAIN,
    Results,
    SourceSummary,
    clock,
    in_view,
    number,
    percent,
    read_results,
    shares_text,
)
from pipeline.common.errors import UserError
from pipeline.common.files import replacing, same_file

MOST_ROWS: Final = 30
"""Tracks of a source in the terminal, those seen longest; page and JSON have all."""


def run_report(
    path: Path, out: Path | None, json: str, clips: list[str], uncertain_below: float | None
) -> int:
    """Read the results, print the table, write the page `out` and the JSON; return 0.

    json: a file, or "-" for standard output in place of the table. clips: whose faces the page shows.
    uncertain_below: None: as the records say. Raises UserError for results or a clip that can't be read, and
    an output that can't be written.
    """
    _check_outputs(path, out, json, clips)
    results = read_results(path, uncertain_below)
    if json == "-":
        sys.stdout.write(_json(results))
    else:
        print_summary(results, Console(highlight=False))
    if json not in ("", "-"):
        _write(Path(json), _json(results))
    if out is not None:
        from pipeline.cli.report.page import cut_faces, make_page  # which loads matplotlib

        _write(out, make_page(results, cut_faces(results, clips)))
        print(f"report: {out}", file=sys.stderr)
    return 0


def print_summary(results: Results, console: Console) -> None:
    """Print the figures of each source and its tracks."""
    for warning in results.warnings:
        console.print(Text(warning, style="yellow"), soft_wrap=True)
    for source in results.summary.sources:
        console.print(Text(source.source, style="bold"), soft_wrap=True)
        console.print(Text(_source_line(source)), soft_wrap=True)
        if source.tracks:
            console.print(_table(source))
        more = len(source.tracks) - MOST_ROWS
        if more > 0:
            console.print(Text(f"and {number(more)} more, in view for less time", style="dim"))
        console.print()


def _source_line(source: SourceSummary) -> str:
    parts = [
        f"{number(source.captured)} frames in {clock(source.end_s - source.start_s)}",
        f"{number(source.frames_without_face)} without a face",
    ]
    for status, reasons in (("dropped", source.dropped), ("failed", source.failed)):
        if reasons:
            named = ", ".join(f"{reason} {number(count)}" for reason, count in reasons.items())
            parts.append(f"{number(sum(reasons.values()))} {status} ({named})")
    if source.latency_ms:
        parts.append(f"latency p50 {source.latency_ms['p50']:.0f} ms, p95 {source.latency_ms['p95']:.0f} ms")
    return "; ".join(parts)


def _table(source: SourceSummary) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("face", "in view", "frames", "emotions", "mean confidence", UNCERTAIN):
        right = name in ("frames", "mean confidence", UNCERTAIN)
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    seen = sorted(source.tracks, key=lambda track: -track.seen_s)[:MOST_ROWS]
    for track in sorted(seen, key=lambda track: track.track):
        table.add_row(
            str(track.track),
            in_view(track, source.pictures),
            number(track.frames),
            shares_text(track, without=UNCERTAIN),
            percent(track.mean_confidence),
            percent(track.shares[UNCERTAIN]),
        )
    return table


def _json(results: Results) -> str:
    return msgspec.json.format(msgspec.json.encode(results.summary), indent=1).decode() + "\n"


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _check_outputs(results: Path, out: Path | None, json: str, clips: list[str]) -> None:
    """Refuse outputs that would overwrite an input."""
    read = [str(results), *clips]
    for path in (out, Path(json) if json not in ("", "-") else None):
        if path is not None and any(same_file(path, text) for text in read):
            raise UserError(f"{path} is what the report is made from; write to another file")
    if out is None and clips:
        raise UserError("--faces puts pictures on the page: it needs --out FILE")
