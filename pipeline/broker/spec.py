"""The declaration of the broker's process."""

import msgspec

from pipeline.config.schema import DRAIN_S, BrokerSettings
from pipeline.config.stage import ProcessPlan, RunFacts, StageSpec, Step


class BrokerOptions(msgspec.Struct, frozen=True):
    """What the broker's process is given."""

    settings: BrokerSettings
    steps: list[Step]
    drain_s: float
    sources: list[str] | None  # that the run waits for, in this order; None: whatever comes
    encoding: str  # auto, raw or jpeg


def processes(run: RunFacts) -> list[ProcessPlan]:
    sources = [source.name for source in run.sources] if run.captures_here else None
    options = BrokerOptions(
        run.settings.broker, list(run.steps), DRAIN_S, sources, run.settings.network.encoding
    )
    return [ProcessPlan(BROKER.role, BROKER.module, "broker", options)]


BROKER = StageSpec("broker", "pipeline.broker.main", BrokerSettings, processes)
