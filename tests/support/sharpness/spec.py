"""A fourth step, as docs/extending.md has it: how sharp each face is."""

from pipeline.config.schema import Settings, Workers
from pipeline.config.stage import ArraySpec, ProcessPlan, RunFacts, StageSpec, Step


class SharpnessSettings(Settings, frozen=True):
    """`[sharpness]`: a number for each face."""

    workers: Workers = 1  # processes


def processes(run: RunFacts) -> list[ProcessPlan]:
    settings = run.settings.of(SharpnessSettings)
    return [
        ProcessPlan("sharpness", "stages.sharpness.main", f"sharpness-{number}", settings)
        for number in range(1, settings.workers + 1)
    ]


def step(settings: SharpnessSettings) -> Step:
    return Step("sharpness", takes="crops", gives=[ArraySpec("sharpness", "float32", ())], max_batch=64)


SHARPNESS = StageSpec("sharpness", "stages.sharpness.main", SharpnessSettings, processes, step=step)
