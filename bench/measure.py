"""The measurement: the pipeline, run as `run.py` runs it, and the loops take turns over a scene."""

import contextlib
import io
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import psutil  # type: ignore[import-untyped]

from bench.job import BareCost, ClipInfo, LoopRun, run_job
from pipeline.broker.spec import BROKER
from pipeline.common.errors import UserError
from pipeline.common.progress import progress
from pipeline.config.schema import LogSettings, PipelineSettings
from pipeline.config.sources import parse_sources
from pipeline.config.stage import cores
from pipeline.supervisor.plan import laid_out
from pipeline.supervisor.reporter import Reporter
from pipeline.supervisor.runner import Runner, Signals
from pipeline.wire.messages import StatusReport
from stages.capture.spec import CaptureSettings
from stages.display.spec import DisplaySettings
from stages.stage import STAGES


class CpuSample(NamedTuple):
    """CPU seconds, user and system, by role since the start of the processes, and the frames written
    since."""

    frames: int
    seconds: dict[str, float]


class Watch:
    """The run's observer: called with each report of the broker, four a second."""

    def __init__(self) -> None:
        self.report: StatusReport | None = None
        self.latency_ms: list[float] = []
        self._first: CpuSample | None = None
        self._last: CpuSample | None = None

    def __call__(self, report: StatusReport, pids: dict[str, int]) -> None:
        self.report = report
        self.latency_ms.extend(ns / 1e6 for ns in report.latency_ns)
        # Not after the last frame: ending the processes is not part of a frame's cost.
        if report.started and not report.finished:
            sample = CpuSample(report.steps.get("display", 0), self._cpu_s(pids))
            self._first = self._first or sample
            self._last = sample

    def cpu_ms_per_frame(self) -> dict[str, float]:
        """Return the CPU time of each role while frames flowed; empty for a run that was too short."""
        if self._first is None or self._last is None:
            return {}
        return per_frame_ms(self._first, self._last)

    def _cpu_s(self, pids: dict[str, int]) -> dict[str, float]:
        seconds: defaultdict[str, float] = defaultdict(float)
        for name, pid in pids.items():
            try:
                spent = psutil.Process(pid).cpu_times()
            except psutil.Error:  # it has just ended
                continue
            seconds[role_of(name)] += spent.user + spent.system
        seconds["parent"] = time.process_time()
        return dict(seconds)


def role_of(name: str) -> str:
    """Return the role of a process: detect for detect-2."""
    stem, dash, number = name.rpartition("-")
    return stem if dash and number.isdigit() else name


def per_frame_ms(first: CpuSample, last: CpuSample) -> dict[str, float]:
    """Return the CPU time by role for each frame written between two samples, ms."""
    frames = last.frames - first.frames
    if frames <= 0:
        return {}
    spent = {role: last.seconds[role] - first.seconds.get(role, 0.0) for role in last.seconds}
    return {role: 1000 * max(0.0, seconds) / frames for role, seconds in spent.items()}


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
    """Run the pipeline over so many frames; they are drawn, not shown, and their results written.

    `pace_fps` 0: as fast as it goes. Raises UserError if it fails, KeyboardInterrupt if it was interrupted.
    """
    specs = parse_sources([source])
    settings = bench_settings(settings, frames, results, pace_fps)
    reporter, watch = _Lines(), Watch()
    no_summary = contextlib.redirect_stdout(io.StringIO())
    stages = (BROKER, *STAGES)
    here = frozenset(spec.role for spec in stages)
    with Signals() as signals, laid_out(stages, settings, specs, here) as plan, no_summary:
        status = Runner(settings, plan, reporter, signals, watch).run()
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
    """Return the user's settings with what the measurement needs."""
    replace = msgspec.structs.replace
    return settings.replace(
        replace(settings.of(CaptureSettings), repeat=0, max_frames=frames, pace_fps=pace_fps),
        DisplaySettings(mode="draw", results=str(results)),
        replace(settings.broker, address="", publish=""),
        replace(settings.log, level="warning", file=""),
    )


def measured(watch: Watch) -> PipelineRun:
    """Return the figures of a completed run."""
    report = watch.report
    if report is None or not report.elapsed_s:
        raise UserError("bench: the pipeline ended without a frame")
    committed = [source.committed for source in report.sources]
    return PipelineRun(
        frames=sum(p.offset for p in committed),
        seconds=report.elapsed_s,
        latency_ms=watch.latency_ms,
        batches=report.batches,
        cpu_ms_per_frame=watch.cpu_ms_per_frame(),
        dropped=sum(sum(p.dropped.values()) for p in committed),
        failed=sum(p.failed for p in committed),
    )


class _Lines(Reporter):
    """Keeps the run's log lines for the error if it fails, and shows nothing."""

    def __init__(self) -> None:
        super().__init__(LogSettings(level="warning", status=False))
        self._said: list[str] = []

    def line(self, text: str) -> None:
        self._said.append(text)

    def why(self, status: int) -> str:
        errors = [line for line in self._said if line.startswith("error: ")] or self._said
        return errors[-1].removeprefix("error: ") if errors else f"the pipeline ended with status {status}"


TUTORIAL_FRAMES: Final = 100
"""Enough for a rate, since the tutorial's loop is slow; shorter clips are played in whole passes."""


def say(text: str) -> None:
    """Print a line about the progress on stderr."""
    print(text, file=sys.stderr, flush=True)


PACE_FPS: Final = 30.0
ROOM: Final = 0.9
"""Largest pace, as a share of the throughput: nearer to 1, the latency would be that of queues."""


def pace_for(throughput_fps: float) -> tuple[float, str]:
    """Return the rate at which latency is measured, and the reason."""
    if throughput_fps * ROOM >= PACE_FPS:
        return PACE_FPS, f"{PACE_FPS:.0f} frames a second"
    return throughput_fps / 2, f"half the throughput: {PACE_FPS:.0f} a second is too much here"


class Scene(NamedTuple):
    """What is measured."""

    label: str
    source: str
    frames: int
    tutorial_frames: int


class Measured(NamedTuple):
    """The runs over one scene, in the order in which they were made."""

    scene: Scene
    tutorial: list[LoopRun]  # empty where it is left out
    plain: dict[int, list[LoopRun]]  # by the threads of each library
    pipeline: list[PipelineRun]
    paced: list[PipelineRun]  # empty where latency is not asked for, as are the two below
    bare: list[BareCost]
    pace_fps: float = 0.0
    pace_reason: str = ""


def make_scene(label: str, source: str, asked: int, clip: ClipInfo, tutorial_cap: int) -> Scene:
    """Return the scene with its frames: whole passes of a shorter clip, so that all see the same mix."""
    frames = whole_passes(asked, clip.frames)
    return Scene(label, source, frames, min(frames, whole_passes(tutorial_cap, clip.frames, at_most=True)))


def whole_passes(asked: int, clip: int, *, at_most: bool = False) -> int:
    """Return `asked`, or the multiple of a shorter clip's frames that is nearest to it (or not above)."""
    if clip >= asked:
        return asked
    return clip * max(1, asked // clip if at_most else round(asked / clip))


def measure(
    settings: PipelineSettings,
    scene: Scene,
    runs: int,
    folder: Path,
    *,
    tutorial: bool,
    throughput_only: bool,
) -> Measured:
    """Run all in turn, `runs` times, so that other load on the machine affects all alike."""
    found = Measured(scene, [], {threads: [] for threads in sorted({1, cores()})}, [], [], [])
    results, source, frames, few = folder / "results.jsonl", scene.source, scene.frames, scene.tutorial_frames
    parts = tutorial + len(found.plain) + (1 if throughput_only else 3)
    with progress(scene.label, runs * parts) as advance:
        for number in range(1, runs + 1):
            if tutorial:
                found.tutorial.append(run_job(LoopRun, "tutorial", settings, source, few, output=results))
                advance(1)
            for threads, of_plain in found.plain.items():
                of_plain.append(
                    run_job(LoopRun, "plain", settings, source, frames, threads=threads, output=results)
                )
                advance(1)
            found.pipeline.append(run_pipeline(settings, source, frames, results))
            advance(1)
            say(_line(found, number, runs))
            if throughput_only:
                continue
            found.bare.append(run_job(BareCost, "bare", settings, source, few))
            advance(1)
            if number == 1:  # the same pace in all runs
                pace_fps, reason = pace_for(found.pipeline[0].fps)
                found = found._replace(pace_fps=pace_fps, pace_reason=reason)
            found.paced.append(run_pipeline(settings, source, frames, results, found.pace_fps))
            advance(1)
    return found


def _line(found: Measured, number: int, runs: int) -> str:
    rates = [f"tutorial {run.fps:.1f}" for run in found.tutorial[-1:]]
    rates += [f"plain with {_threads(n)} {of_plain[-1].fps:.1f}" for n, of_plain in found.plain.items()]
    rates += [f"pipeline {found.pipeline[-1].fps:.1f}"]
    return f"{found.scene.label}, run {number} of {runs}: {', '.join(rates)} frames/s"


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"
