"""(c) The pipeline, run as `run.py` runs it: the same supervisor, the same processes."""

import contextlib
import io
import signal
from pathlib import Path
from typing import Final

import msgspec

from bench.watch import Watch
from pipeline.errors import UserError
from pipeline.preparation import laid_out
from pipeline.settings import DisplaySettings, PipelineSettings
from pipeline.sources import parse_sources
from pipeline.status import Reporter
from pipeline.supervisor import Supervisor

SIGNALLED: Final = 128
"""An exit status above this names the signal that ended the run."""


class PipelineRun(msgspec.Struct, frozen=True):
    """One run; `seconds` from the first frame asked for to the last record written."""

    frames: int
    seconds: float
    latency_ms: list[float]  # of each frame, captured to written
    batches: dict[int, int]  # faces in a batch -> how often
    cpu_ms_per_frame: dict[str, float]  # by role
    dropped: int
    failed: int

    @property
    def fps(self) -> float:
        return self.frames / self.seconds


def run_pipeline(
    settings: PipelineSettings, source: str, frames: int, results: Path, pace_fps: float = 0.0
) -> PipelineRun:
    """Run the pipeline over so many frames, drawing on, nothing shown, results written.

    `pace_fps` 0: as fast as it goes. Raises UserError if it does not complete, KeyboardInterrupt if it was
    interrupted.
    """
    specs = parse_sources([source])
    settings = bench_settings(settings, frames, results, pace_fps)
    reporter, watch = _Lines(), Watch()
    no_summary = contextlib.redirect_stdout(io.StringIO())
    with laid_out(settings, specs, None) as plan, no_summary:
        status = Supervisor(settings, plan, reporter, watch).run()
    if status == SIGNALLED + signal.SIGINT:
        raise KeyboardInterrupt
    if status > SIGNALLED:
        raise SystemExit(status)
    if status != 0:
        raise UserError(reporter.why(status))
    return measured(watch)


def bench_settings(
    settings: PipelineSettings, frames: int, results: Path, pace_fps: float
) -> PipelineSettings:
    """The user's settings, but for what the measurement needs."""
    replace = msgspec.structs.replace
    return replace(
        settings,
        capture=replace(settings.capture, repeat=0, max_frames=frames, pace_fps=pace_fps),
        display=DisplaySettings(mode="draw", results=str(results)),
        broker=replace(settings.broker, address="", publish=""),
        log=replace(settings.log, level="warning", file=""),
    )


def measured(watch: Watch) -> PipelineRun:
    """Return what was seen of a run that has completed."""
    report = watch.report
    if report is None or not report.elapsed_s:
        raise UserError("bench: the pipeline ended without a frame")
    progress = [source.progress for source in report.sources]
    return PipelineRun(
        frames=sum(p.written for p in progress),
        seconds=report.elapsed_s,
        latency_ms=watch.latency_ms,
        batches={int(size): count for size, count in report.batches.items()},
        cpu_ms_per_frame=watch.cpu_ms_per_frame(),
        dropped=sum(sum(p.dropped.values()) for p in progress),
        failed=sum(p.failed for p in progress),
    )


class _Lines(Reporter):
    """Keeps what the run and its stages say, in case it fails; shows nothing."""

    def __init__(self) -> None:
        super().__init__("warning", "", 1.0, quiet=True)
        self._said: list[str] = []

    def line(self, text: str) -> None:
        self._said.append(text)

    def why(self, status: int) -> str:
        errors = [line for line in self._said if line.startswith("error: ")] or self._said
        return errors[-1].removeprefix("error: ") if errors else f"the pipeline ended with status {status}"
