"""Which processes a run has on this machine, each with its assignment: the run as a table."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from pipeline.config.schema import DetectSettings, PipelineSettings
from pipeline.config.sources import SourceSpec
from pipeline.wire.addresses import broker_address, dial_address, is_tcp, publish_address
from pipeline.wire.assignment import BrokerOptions, CaptureOptions, ClassifyOptions, DisplayOptions

ROLES: Final = ("broker", "display", "detect", "classify", "capture")
"""In the order of their start: what takes outcomes is there before what makes frames."""

DRAIN_S: Final = 2.0
"""After a stop: how long frames under way may take before they are dropped."""

_MATHS_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class ProcessPlan(NamedTuple):
    """One process: what `assignment.Assignment` needs besides the incarnation."""

    role: str
    name: str
    options: msgspec.Struct
    threads: int
    source: str = ""  # of a capture


class RunPlan(NamedTuple):
    """All of a run's processes on this machine, and where its broker is."""

    processes: list[ProcessPlan]
    address: str
    publish: str
    sources: list[SourceSpec]
    has_broker: bool
    keys: str = ""  # the directory of the keys; empty: no address needs any
    frames: str = ""  # the directory of shared frames; empty: they travel in messages

    @property
    def dialed(self) -> str:
        """Where the stages dial in."""
        return dial_address(self.address)

    @property
    def needs_keys(self) -> bool:
        return is_tcp(self.address) or is_tcp(self.publish)

    def keys_of(self, role: str) -> str:
        """The directory that a process reads its keys from; empty if it needs none."""
        return self.keys if role == "broker" or is_tcp(self.address) else ""


def make_plan(
    settings: PipelineSettings,
    sources: list[SourceSpec],
    only: frozenset[str] | None,
    directory: Path,
    model: str = "",
) -> RunPlan:
    """Lay out a run; `settings.display.mode` is window or none by now. Raises UserError for an address.

    `model` is the sha256 of the emotion model that all of the run is to use; "": whatever is found.
    """
    keyed = bool(settings.security.keys)
    address = broker_address(settings.broker, directory, keyed)
    here = frozenset(ROLES) if only is None else only
    awaited = [source.name for source in sources] if "capture" in here else None
    processes = [
        plan
        for role in ROLES
        if role in here
        for plan in _of_role(role, settings, sources, awaited, directory, model)
    ]
    publish = publish_address(settings.broker, address, keyed) if "broker" in here else ""
    return RunPlan(processes, address, publish, sources if "capture" in here else [], "broker" in here)


def detect_workers(settings: DetectSettings) -> int:
    return settings.workers or os.cpu_count() or 1


def thread_limits(threads: int) -> dict[str, str]:
    """The environment that holds a process's numerical libraries to its threads."""
    return dict.fromkeys(_MATHS_THREADS, str(threads))


def _of_role(
    role: str,
    settings: PipelineSettings,
    sources: list[SourceSpec],
    awaited: list[str] | None,
    directory: Path,
    model: str,
) -> Iterator[ProcessPlan]:
    match role:
        case "broker":
            yield ProcessPlan(role, role, _broker_options(settings, awaited), 1)
        case "display":
            names, checkpoint = [source.name for source in sources], str(directory / "display.json")
            yield ProcessPlan(role, role, DisplayOptions(settings.display, names, checkpoint), 1)
        case "detect":
            for number in range(1, detect_workers(settings.detect) + 1):
                yield ProcessPlan(role, f"detect-{number}", settings.detect, settings.detect.threads)
        case "classify":
            for number in range(1, settings.classify.workers + 1):
                options = ClassifyOptions(settings.classify, model)
                yield ProcessPlan(role, f"classify-{number}", options, settings.classify.threads)
        case "capture":
            for number, source in enumerate(sources, start=1):
                capture = CaptureOptions(source, settings.capture, settings.network.jpeg_quality)
                yield ProcessPlan(role, f"capture-{number}", capture, settings.capture.threads, source.name)


def _broker_options(settings: PipelineSettings, awaited: list[str] | None) -> BrokerOptions:
    return BrokerOptions(
        settings.broker,
        settings.capture.file_window,
        settings.classify.max_batch,
        settings.classify.max_delay_ms,
        DRAIN_S,
        awaited,
        settings.network.encoding,
        settings.detect.search_interval_ms / 1000,
    )
