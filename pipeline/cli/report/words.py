"""Figures of a report as people read them, on the page and in the terminal."""

from typing import Final

from pipeline.cli.report.summary import TrackSummary

NBSP: Final = "\N{NO-BREAK SPACE}"
MOST_SPANS: Final = 4
NAMED_FROM: Final = 0.05
"""Share of a track's frames from which an emotion is named."""


def clock(seconds: float, pictures: bool = False) -> str:
    """Return a time as 0:07.5 or 1:02:09; of a folder the number of pictures before it."""
    if pictures:
        return f"{seconds:.0f}"
    minutes, rest = divmod(round(max(0.0, seconds), 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:04.1f}".removesuffix(".0")
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"


def percent(share: float) -> str:
    """Return a share of 1; one that is not quite nothing is never 0 %."""
    return f"<{NBSP}1{NBSP}%" if 0 < share < 0.005 else f"{100 * share:.0f}{NBSP}%"


def number(value: int) -> str:
    """Return a number with its thousands set apart."""
    return f"{value:,}"


def in_view(track: TrackSummary, pictures: bool = False) -> str:
    """Return when a track was in view: 0:00–0:12.4, 0:20–0:21."""
    parts = []
    for span in track.in_view[:MOST_SPANS]:
        if not pictures:
            parts.append(f"{clock(span.start_s)}–{clock(span.end_s)}")
            continue
        first, last = round(span.start_s) + 1, round(span.end_s)
        parts.append(f"picture {first}" if first == last else f"pictures {first}–{last}")
    more = len(track.in_view) - MOST_SPANS
    return ", ".join(parts) + (f" and {more} times more" if more > 0 else "")


def said(track: TrackSummary, without: str = "") -> str:
    """Return what a track showed, the most frequent first: happy 72 %, neutral 25 %."""
    ordered = sorted(track.shares.items(), key=lambda pair: -pair[1])
    named = [pair for pair in ordered if pair[1] >= NAMED_FROM and pair[0] != without]
    return ", ".join(f"{name} {percent(share)}" for name, share in named)
