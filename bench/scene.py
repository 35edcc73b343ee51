"""A clip and how much of it is measured; the loops and the pipeline run over it in turn."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from bench.job import BareCost, ClipInfo, Job, Kind, LoopRun, run_job, stage_settings
from bench.pipeline_run import PipelineRun, run_pipeline
from pipeline.config.schema import PipelineSettings
from pipeline.config.stage import cores

TUTORIAL_FRAMES: Final = 100
"""The tutorial's loop is slow and a rate needs no more; a shorter clip is played in whole passes."""

Say = Callable[[str], None]


PACE_FPS: Final = 30.0
ROOM: Final = 0.9
"""Share of the throughput up to which a pace is bearable: nearer to 1, latency tells of queues alone."""


def pace_for(throughput_fps: float) -> tuple[float, str]:
    """Return the rate at which latency is measured, and why that."""
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
    """Choose the frames: whole passes where the clip is shorter than asked, so that all see the same mix."""
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
    say: Say,
    *,
    tutorial: bool,
    throughput_only: bool,
) -> Measured:
    """Run all in turn, `runs` times: what disturbs the machine for a while then disturbs all alike."""
    found = Measured(scene, [], {threads: [] for threads in sorted({1, cores()})}, [], [], [])
    results = folder / "results.jsonl"

    def job(kind: Kind, frames: int, threads: int = 1) -> Job:
        return Job(
            kind=kind,
            source=scene.source,
            frames=frames,
            settings=stage_settings(settings),
            threads=threads,
            output=str(results),
        )

    for number in range(1, runs + 1):
        if tutorial:
            found.tutorial.append(run_job(job("tutorial", scene.tutorial_frames), LoopRun))
        for threads, of_plain in found.plain.items():
            of_plain.append(run_job(job("plain", scene.frames, threads), LoopRun))
        found.pipeline.append(run_pipeline(settings, scene.source, scene.frames, results))
        say(_line(found, number, runs))
        if throughput_only:
            continue
        found.bare.append(run_job(job("bare", scene.tutorial_frames), BareCost))
        if number == 1:  # the same pace in all runs
            pace_fps, reason = pace_for(found.pipeline[0].fps)
            found = found._replace(pace_fps=pace_fps, pace_reason=reason)
        paced = run_pipeline(settings, scene.source, scene.frames, results, found.pace_fps)
        found.paced.append(paced)
    return found


def _line(found: Measured, number: int, runs: int) -> str:
    rates = [f"tutorial {run.fps:.1f}" for run in found.tutorial[-1:]]
    rates += [f"plain with {_threads(n)} {of_plain[-1].fps:.1f}" for n, of_plain in found.plain.items()]
    rates += [f"pipeline {found.pipeline[-1].fps:.1f}"]
    return f"{found.scene.label}, run {number} of {runs}: {', '.join(rates)} frames/s"


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"
