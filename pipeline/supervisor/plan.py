"""Which processes a run has on this machine, where they meet, and in which directories."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from pipeline.config.schema import PipelineSettings
from pipeline.config.sources import SourceSpec
from pipeline.config.stage import ProcessPlan, RunFacts, StageSpec, agreed_steps
from pipeline.supervisor.run_directory import frames_directory, run_directory
from pipeline.wire.addresses import broker_address, dial_address, is_tcp, publish_address

_MATHS_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class RunPlan(NamedTuple):
    """All of a run's processes on this machine, and where its broker is."""

    roles: tuple[str, ...]  # of the whole run, wherever its processes are
    processes: list[ProcessPlan]
    address: str
    publish: str
    sources: list[SourceSpec]
    has_broker: bool
    keys: str = ""  # directory of the keys; empty: no address needs any
    frames: str = ""  # directory of shared frames; empty: they travel in messages

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


@contextmanager
def laid_out(
    stages: Sequence[StageSpec[Any]],
    settings: PipelineSettings,
    sources: list[SourceSpec],
    only: frozenset[str] | None,
) -> Iterator[RunPlan]:
    """Give the plan of a run with its keys and its directories, which are removed at the end.

    Arguments as for `make_plan`. Raises UserError as `make_plan`, `run_directory` and `with_keys` do.
    """
    with run_directory() as directory, frames_directory() as frames:
        plan = make_plan(stages, settings, sources, only, directory)
        yield with_keys(plan, settings, directory)._replace(frames=str(frames or ""))


def make_plan(
    stages: Sequence[StageSpec[Any]],
    settings: PipelineSettings,
    sources: list[SourceSpec],
    only: frozenset[str] | None,
    directory: Path,
) -> RunPlan:
    """Plan a run of `stages`, the broker among them, whose settings are resolved.

    only: the roles that run here; None: all. Raises UserError for an address or a model that can't be had.
    """
    keyed = bool(settings.security.keys)
    address = broker_address(settings.broker.address, directory, keyed)
    here = frozenset(spec.role for spec in stages) if only is None else only
    steps = agreed_steps([spec.step(settings.of(spec.settings)) for spec in stages if spec.step is not None])
    run = RunFacts(settings, sources, steps, "capture" in here, directory)
    processes = [plan for spec in stages if spec.role in here for plan in spec.processes(run)]
    planned = {process.role for process in processes}
    roles = tuple(spec.role for spec in stages if spec.role in planned or not spec.optional)
    publish = ""
    if "broker" in here:
        publish = publish_address(
            settings.broker.publish, address, named=bool(settings.broker.address), keyed=keyed
        )
    return RunPlan(roles, processes, address, publish, sources, "broker" in here)


def with_keys(plan: RunPlan, settings: PipelineSettings, directory: Path) -> RunPlan:
    """Return the plan with the directory of its keys: the one named, this user's own, or made for this run.

    Raises UserError for keys that are missing, damaged or open to others.
    """
    if not plan.needs_keys:
        return plan
    from pipeline.wire.keys import check_keys, make_keys, user_directory

    named = settings.broker.address or settings.broker.publish
    if settings.security.keys:
        keys = Path(settings.security.keys).expanduser().absolute()
    elif named:  # other programs of this user meet the run there
        keys = user_directory(plan.roles)
    else:
        keys = directory / "keys"
        make_keys(keys, plan.roles)
    plan = plan._replace(keys=str(keys))
    roles = ["supervisor", *(process.role for process in plan.processes)]
    check_keys(keys, dict.fromkeys(role for role in roles if plan.keys_of(role)))
    return plan


def thread_limits(threads: int) -> dict[str, str]:
    """Return the environment that limits a process's numerical libraries to its threads."""
    return dict.fromkeys(_MATHS_THREADS, str(threads))
