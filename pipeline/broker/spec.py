"""The declaration of the broker's process."""

import msgspec

from pipeline.config.schema import BrokerSettings
from pipeline.config.stage import ProcessPlan, RunFacts, StageSpec, Step, check_steps


class BrokerRules(msgspec.Struct, frozen=True):
    """The broker's options; its process adds the last two."""

    settings: BrokerSettings
    steps: list[Step]  # in their order: the first takes frames, the others items
    sources: list[str] | None = None  # that the run waits for, in this order; None: whatever comes
    encoding: str = "auto"  # of frames: auto, by the links they take; raw; jpeg
    frames: str = ""  # where the processes of this run share the memory of frames; empty: nowhere
    owner: str = ""  # instance of the run's own supervisor; those of its processes begin with it


def processes(run: RunFacts) -> list[ProcessPlan]:
    check_steps(run.steps)
    sources = [source.name for source in run.sources] if run.captures_here else None
    rules = BrokerRules(
        run.settings.broker, list(run.steps), sources=sources, encoding=run.settings.network.encoding
    )
    return [ProcessPlan(BROKER.role, BROKER.module, "broker", rules)]


BROKER = StageSpec("broker", "pipeline.broker.main", BrokerSettings, processes)
