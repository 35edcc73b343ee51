"""What a run prints: a live table in a terminal, plain lines elsewhere, and a summary at its end."""

import contextlib
import logging
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import Progress as Estimates
from rich.progress import TaskID
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.common.errors import UserError
from pipeline.config.schema import LogSettings
from pipeline.supervisor.log import LogFile, as_json, json_line
from pipeline.supervisor.metrics import percentiles
from pipeline.wire.messages import Committed, InView, PeerReport, SourceReport, StatusReport

LATENCIES = 2000  # the newest frames, which the percentiles are computed from
SPEED_OVER_S: Final = 15.0  # of files, from which the time left is computed
STALE_S: Final = 2.0
"""Faces stay listed this long after a source's last frame, as long as a track lives without its face."""

WIDE: Final = 84  # columns of a terminal from which the sources' table is complete
NARROW: Final = 60  # below this, it has only the progress of files
BAR: Final = 24  # most columns of a progress bar
WORD: Final = 14  # columns of an emotion's word, at the most
IN_A_LINE: Final = 6  # faces, and files, that a plain line names
TIMED = ("capture", "display")  # roles whose clocks the latency depends on


class Rates:
    """Running figures of a run, from one report to the next."""

    def __init__(self) -> None:
        self.latency_ms: list[float] = []
        self.fps: dict[str, float] = {}
        self.mean_batch: float | None = None
        self.report: StatusReport | None = None
        self.missing = ""  # what the run waits for, as a text
        self.remote: list[PeerReport] = []  # stages on other machines whose clocks the latency depends on
        self._since: StatusReport | None = None
        self._seconds = 0.0
        self._now_s = 0.0
        self._estimates = Estimates(
            speed_estimate_period=SPEED_OVER_S, get_time=lambda: self._now_s, disable=True
        )
        self._tasks: dict[str, TaskID] = {}  # by file
        self._moved: dict[str, tuple[int, float]] = {}  # by source: frames that are ok, and since when

    def update(self, report: StatusReport, waiting_for: str = "") -> None:
        """Use a report, and what the run waits for; rates are of about the last second."""
        self.latency_ms = [*self.latency_ms, *(ns / 1e6 for ns in report.latency_ns)][-LATENCIES:]
        if not report.finished or not self.remote:  # at the end they leave one by one
            self.remote = [peer for peer in report.peers if peer.remote and peer.role in TIMED]
        self.report = report
        going = not report.stopping and not report.finished
        self.missing = f"waiting for {waiting_for}" if waiting_for and going else ""
        self._now_s += report.interval_s
        for source in report.sources:
            self._update_source(source)
        batches = sum(report.batches.values())
        if batches:
            self.mean_batch = sum(size * count for size, count in report.batches.items()) / batches
        if self._since is None or self._since.broker != report.broker:
            self._since, self._seconds = report, 0.0
            return
        self._seconds += report.interval_s
        if self._seconds >= 1.0:
            captured = sum(s.captured for s in report.sources) - sum(s.captured for s in self._since.sources)
            self.fps = {"capture": captured / self._seconds}
            for role, count in report.steps.items():
                frames = count - self._since.steps.get(role, 0)
                self.fps[role] = frames / self._seconds
            self._since, self._seconds = report, 0.0

    def _update_source(self, source: SourceReport) -> None:
        if self._moved.get(source.name, (-1, 0.0))[0] != source.committed.ok:
            self._moved[source.name] = source.committed.ok, self._now_s
        if source.frames:
            if source.name not in self._tasks:
                self._tasks[source.name] = self._estimates.add_task("", total=source.frames)
            self._estimates.update(self._tasks[source.name], completed=source.committed.offset)

    def share_done(self, source: SourceReport) -> float | None:
        """Return the share of a file that is done, 0 to 1; None if its length is unknown."""
        return min(1.0, source.committed.offset / source.frames) if source.frames else None

    def left_s(self, source: SourceReport) -> float | None:
        """Return the time that a file still takes, s; None if it is not known yet."""
        task = self._tasks.get(source.name)
        return None if task is None else self._estimates.tasks[task].time_remaining

    def in_view(self) -> tuple[list[tuple[SourceReport, InView]], int]:
        """Return who is in view, and how many more are; a source without new frames has nobody in view."""
        fresh = [
            source
            for source in (self.report.sources if self.report else ())
            if source.in_flight or self._now_s - self._moved[source.name][1] < STALE_S
        ]
        seen = [(source, face) for source in fresh for face in source.in_view]
        return seen, sum(source.more for source in fresh)

    def figures(self) -> list[str]:
        """Return latency and mean batch as texts, as far as they are known."""
        figures = []
        if latency_ms := percentiles(self.latency_ms):
            figures.append(f"latency p50 {latency_ms[0]:.0f} ms, p95 {latency_ms[1]:.0f} ms")
        if self.mean_batch is not None:
            figures.append(f"mean batch {self.mean_batch:.1f}")
        return figures


class Reporter:
    """Prints the lines of this process and of the children, and the status between them."""

    def __init__(self, settings: LogSettings, summary_to: TextIO | None = None) -> None:
        """summary_to: where the summary goes, by default to standard output.

        Raises UserError if the log file can't be written.
        """
        self._summary_to = summary_to
        self._settings = settings
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._next_line_s = 0.0
        try:
            self._file = LogFile(settings.file) if settings.file else None
        except OSError as error:
            raise UserError(f"log.file: {settings.file} can't be written: {error.strerror}") from error
        self._live: Live | None = None
        self.rates = Rates()

    def line(self, text: str) -> None:
        """Print a line as it is, and write it to the log file."""
        self._print(text)
        trouble = self._file.write(text) if self._file is not None else None
        if trouble is not None:
            self._print(self._format(*trouble))

    def _print(self, text: str) -> None:
        """Print a line. A closed terminal, or a full disk behind stderr, does not end a run."""
        with contextlib.suppress(OSError):
            self._console.print(Text(text))

    @property
    def lost(self) -> int:
        """Lines that could not be written to the log file."""
        return self._file.lost if self._file is not None else 0

    def log(self, level: str, text: str) -> None:
        """Print a line of this process; with the level `child`, one that another process has written."""
        if level == "child":
            self.line(as_json(text) if self._settings.json else text)
        elif getattr(logging, level.upper()) >= getattr(logging, self._settings.level.upper()):
            self.line(self._format(level, text))

    def _format(self, level: str, text: str) -> str:
        """Return a line of this process; in the plain log an error is without the time."""
        if self._settings.json:
            return json_line("run", level, text)
        return f"error: {text}" if level == "error" else f"{time.strftime('%H:%M:%S')} run: {text}"

    def info(self, text: str) -> None:
        self.log("info", text)

    def update(self, report: StatusReport, waiting_for: str) -> None:
        """Show a report: at once in a terminal, every few seconds elsewhere."""
        self.rates.update(report, waiting_for)
        if not self._settings.status:
            return
        if self._console.is_terminal and not self._settings.json:
            if self._live is None and report.started:
                self._live = Live(console=self._console, auto_refresh=False, transient=True)
                self._live.start()
            if self._live is not None:
                with contextlib.suppress(OSError):  # the terminal is closed
                    self._live.update(
                        render(self.rates, *self._console.size, self._console.encoding), refresh=True
                    )
            return
        now_s = time.monotonic()
        if report.started and now_s >= self._next_line_s:
            if self._next_line_s:
                self.info(status_line(self.rates))
            self._next_line_s = now_s + self._settings.status_interval_s

    def print_summary(self, sources: list[SourceReport], elapsed_s: float) -> bool:
        """Print the summary; return whether that worked."""
        file = self._summary_to or sys.stdout
        try:
            print(summary(sources, self.rates, elapsed_s), file=file, flush=True)
        except OSError as error:
            _give_up(file)
            self.log("error", f"standard output: cannot be written: {error.strerror}")
            return False
        return True

    def suspend(self) -> None:
        """Restore the terminal for the shell, until the run continues."""
        self._end_live()
        self.info("suspended; fg goes on")

    def _end_live(self) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.stop()
            self._live = None

    def close(self) -> None:
        self._end_live()
        try:
            sys.stderr.flush()
        except OSError:
            _give_up(sys.stderr)


class LogHandler(logging.Handler):
    """Has a reporter print what other modules of this process log."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.log(record.levelname.lower(), record.getMessage())


def status_line(rates: Rates) -> str:
    """The status as one plain line: what the run waits for comes first, who is in view last."""
    report = rates.report
    assert report is not None
    parts = [rates.missing] if rates.missing else []
    parts += _done(rates, report)
    if rates.fps:
        parts.append(f"frames/s: {', '.join(f'{role} {fps:.1f}' for role, fps in rates.fps.items())}")
    parts += rates.figures()
    dropped = _total_dropped(report.sources)
    parts.append(f"dropped {dropped}, failed {sum(s.committed.failed for s in report.sources)}")
    parts += _faces(rates)
    return "; ".join(parts)


def _done(rates: Rates, report: StatusReport) -> list[str]:
    """How far each file is, and how long it still takes."""
    going = [s for s in report.sources if s.frames and not (s.ended and not s.in_flight)]
    parts = [
        f"{source.name} {rates.share_done(source):.0%}" + (f", {left} left" if left else "")
        for source in going[:IN_A_LINE]
        for left in [_left(rates, source)]
    ]
    return parts + ([f"and {len(going) - IN_A_LINE} more files"] if len(going) > IN_A_LINE else [])


def _faces(rates: Rates) -> list[str]:
    """Who is in view: source, track, emotion and confidence."""
    seen, more = rates.in_view()
    faces = [
        f"{source.name} #{face.track} {face.label}"
        + ("" if face.confidence is None else f" {face.confidence:.0%}")
        for source, face in seen[:IN_A_LINE]
    ]
    more += len(seen[IN_A_LINE:])
    shown = ", ".join(faces) + (f" and {more} more" if more else "")
    return [f"in view: {shown}"] if seen else []


def render(rates: Rates, width: int, height: int, encoding: str = "utf-8") -> Group:
    """The status for a terminal of this width and height. Faces come before the stages' figures."""
    report = rates.report
    assert report is not None
    state = f"stopping ({report.stopping})" if report.stopping else "Ctrl-C ends the run"
    foot = [Text(rates.missing, style="bold yellow")] if rates.missing else []
    foot += [Text(line) for line in _lines([*rates.figures(), state], width)]
    names = {s.name: _cell(s.name, max(12, width // 4), encoding) for s in report.sources}
    sources, stages = _sources_table(rates, report, names, width), _stages_table(rates, report)
    seen, more = rates.in_view()
    room = height - sources.row_count - len(foot) - 5  # the tables' headers, empty lines, the cursor's line
    room -= more > 0
    parts: list[Table | Text] = [sources]
    if seen:
        parts += [Text(), *_faces_table(seen, names, more, max(1, room), encoding)]
    if len(seen) + stages.row_count + 2 <= room or not seen:
        parts += [Text(), stages]
    return Group(*parts, Text(), *foot)


def _lines(texts: list[str], width: int) -> list[str]:
    """Return texts side by side, in as many lines as they need."""
    lines: list[str] = []
    for text in texts:
        if lines and len(lines[-1]) + 3 + len(text) <= width:
            lines[-1] += f"   {text}"
        else:
            lines.append(text)
    return lines


def _table(*columns: str) -> Table:
    """A table whose first column is text, the others figures."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        left = column in (columns[0], "done", "emotion")
        table.add_column(column, justify="left" if left else "right", no_wrap=True, overflow="ellipsis")
    return table


def _cell(text: str, most: int, encoding: str) -> Text:
    """Return a text for a cell of at most so many columns, in letters that the terminal's encoding has."""
    text = text.encode(encoding, "replace").decode(encoding)
    return Text(text if cell_len(text) <= most else f"{set_cell_size(text, most - 3)}...")


def _sources_table(rates: Rates, report: StatusReport, names: dict[str, Text], width: int) -> Table:
    """A row for each source; for a file, how much is done and the time left."""
    files = any(source.frames for source in report.sources)
    done = ["done", "", "left"] if files else []
    counts = ["ok", "dropped", "failed"] if width >= NARROW or not files else []
    table = _table("source", *done, *counts, *(["in flight"] if width >= WIDE else []))
    for source in report.sources:
        row: list[RenderableType] = [
            names[source.name],
            *(_done_cells(rates, source, width) if files else []),
        ]
        if counts:
            dropped = _dropped(source.committed) if width >= WIDE else str(_total_dropped([source]))
            row += [str(source.committed.ok), dropped, str(source.committed.failed)]
        over = source.ended and not source.in_flight and not files
        table.add_row(*row, *(["ended" if over else str(source.in_flight)] if width >= WIDE else []))
    return table


def _done_cells(rates: Rates, source: SourceReport, width: int) -> list[ProgressBar | str]:
    """A bar, the share in per cent and the time left; empty if the length is unknown."""
    share = rates.share_done(source)
    if share is None:
        return ["", "", ""]
    bar = ProgressBar(1.0, share, max(8, min(BAR, width - 60)), complete_style="green")
    return [bar, f"{share:.0%}", _left(rates, source)]


def _stages_table(rates: Rates, report: StatusReport) -> Table:
    table = _table("stage", "frames/s", "ms a step")
    for role in ("capture", *report.steps):
        steps, busy_ns = report.steps.get(role, 0), report.busy_ns.get(role, 0)
        a_step = f"{busy_ns / steps / 1e6:.1f}" if steps else ""
        fps = f"{rates.fps[role]:.1f}" if role in rates.fps else ""  # not measured in the first second
        table.add_row(role, fps, a_step)
    return table


def _faces_table(
    seen: list[tuple[SourceReport, InView]], names: dict[str, Text], more: int, rows: int, encoding: str
) -> list[Table | Text]:
    """Who is in view: up to `rows` rows, one for each track, and a count of the others, `more` among them."""
    table = _table("in view", "track", "emotion", "confidence")
    if len(seen) > rows and not more:
        rows = max(1, rows - 1)  # the last row is the count
    last = ""
    for source, face in seen[:rows]:
        sure = "" if face.confidence is None else f"{face.confidence:.0%}"
        name = names[source.name] if source.name != last else ""
        table.add_row(name, str(face.track), _cell(face.label, WORD, encoding), sure)
        last = source.name
    more += len(seen[rows:])
    return [table, *([Text(f"and {more} more", style="dim")] if more else [])]


def _left(rates: Rates, source: SourceReport) -> str:
    """How long a file still takes: 0:12, 1:02:03; empty if that is not known yet."""
    if source.ended and not source.in_flight:
        return "ended"
    left_s = rates.left_s(source)
    if left_s is None:
        return ""
    minutes, seconds = divmod(round(left_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _total_dropped(sources: list[SourceReport]) -> int:
    return sum(sum(source.committed.dropped.values()) for source in sources)


def _dropped(committed: Committed) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(committed.dropped.items()))
    total = sum(committed.dropped.values())
    return f"{total} ({reasons})" if reasons else str(total)


def balance(captured: int, committed: Committed, in_flight: int) -> str:
    """captured = ok + dropped + failed, and after an abort the frames without an outcome."""
    line = (
        f"captured {captured} = ok {committed.ok} + dropped {_dropped(committed)} + failed {committed.failed}"
    )
    return f"{line} + unfinished {in_flight}" if in_flight else line


def summary(sources: list[SourceReport], rates: Rates, elapsed_s: float) -> str:
    """The summary: the balance of each source and of all, rates and latency."""
    lines = [
        f"{source.name}: {balance(source.captured, source.committed, source.in_flight)}" for source in sources
    ]
    if len(sources) > 1:
        lines.append(f"all sources: {_total(sources)}")
    written = sum(source.committed.offset for source in sources)
    if written and elapsed_s > 0:
        rate = f"{written} frames in {elapsed_s:.1f} s: {written / elapsed_s:.1f} frames/s"
        lines.append("; ".join([rate, *rates.figures()]))
    if rates.remote:
        lines.append(f"latency is on the broker's clock: {', '.join(map(_clock, rates.remote))}")
    return "\n".join(lines)


def _clock(peer: PeerReport) -> str:
    """The offset of a stage's clock with its error; only the error if it is larger."""
    offset = f" {peer.offset_ns / 1e9:+.6f} s" if peer.error_ns < abs(peer.offset_ns) else ""
    return f"{peer.name}{offset} ± {peer.error_ns / 1e6:.2f} ms"


def _total(sources: list[SourceReport]) -> str:
    dropped: Counter[str] = Counter()
    for source in sources:
        dropped.update(source.committed.dropped)
    committed = Committed(
        sum(s.committed.offset for s in sources),
        sum(s.committed.ok for s in sources),
        sum(s.committed.failed for s in sources),
        dropped,
    )
    return balance(sum(s.captured for s in sources), committed, sum(s.in_flight for s in sources))


def _give_up(stream: TextIO) -> None:
    """Discard what a stream could not write, which would otherwise fail again at exit, with status 120."""
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())
