"""Which processes a run has on this machine, where they meet, and in which private directories.

The directories, for sockets and shared frames, are removed at the end. The next run removes those of a run
that was killed.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pipeline.common.errors import UserError
from pipeline.config.schema import PipelineSettings
from pipeline.config.sources import SourceSpec
from pipeline.config.stage import ProcessPlan, RunFacts, StageSpec, agreed_steps
from pipeline.wire.addresses import (
    IPC_PATH_MAX,
    broker_address,
    dial_address,
    has_ipc,
    is_ours,
    is_tcp,
    publish_address,
)

if sys.platform != "win32":
    import fcntl

_MATHS_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class RunPlan(NamedTuple):
    """A run's processes on this machine, and where its broker is."""

    roles: tuple[str, ...]  # of the whole run, wherever its processes are
    processes: list[ProcessPlan]
    address: str
    publish: str
    sources: list[SourceSpec]
    has_broker: bool
    keys: str = ""  # directory of the keys; empty: no address is tcp
    frames: str = ""  # directory of shared frames; empty: they travel in messages
    placed: frozenset[str] = frozenset()  # processes whose machine an engine chooses
    least: Mapping[str, int] = MappingProxyType({})  # how many processes a role that scales has at first

    @property
    def dialed(self) -> str:
        """The address that the stages connect to."""
        return dial_address(self.address)

    @property
    def needs_keys(self) -> bool:
        return is_tcp(self.address) or is_tcp(self.publish)

    def keys_of(self, role: str) -> str:
        """The directory of the keys that a process needs; "" if it needs none."""
        return self.keys if role == "broker" or is_tcp(self.address) else ""


@contextmanager
def laid_out(
    stages: Sequence[StageSpec[Any]],
    settings: PipelineSettings,
    sources: list[SourceSpec],
    here: frozenset[str],
) -> Iterator[RunPlan]:
    """Give the plan of a run with its keys and directories; the directories are removed at the end.

    Arguments as for `make_plan`. Raises UserError as `make_plan`, `run_directory` and `with_keys` do.
    """
    with run_directory() as directory, frames_directory() as frames:
        plan = make_plan(stages, settings, sources, here, directory)
        yield with_keys(plan, settings, directory)._replace(frames=str(frames or ""))


def make_plan(
    stages: Sequence[StageSpec[Any]],
    settings: PipelineSettings,
    sources: list[SourceSpec],
    here: frozenset[str],
    directory: Path,
) -> RunPlan:
    """Plan a run of `stages`, the broker among them, whose settings are resolved.

    here: the roles that run here. Raises UserError for an address or model that can't be used.
    """
    address = broker_address(settings.broker.address, directory)
    steps = agreed_steps([spec.step(settings.of(spec.settings)) for spec in stages if spec.step is not None])
    run = RunFacts(settings, sources, steps, "capture" in here, directory)
    processes = [plan for spec in stages if spec.role in here for plan in spec.processes(run)]
    planned = {process.role for process in processes}
    roles = tuple(spec.role for spec in stages if spec.role in planned or not spec.optional)
    publish = ""
    if "broker" in here:
        publish = publish_address(settings.broker.publish, address, named=bool(settings.broker.address))
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


SHARED_MEMORY: Final = Path("/dev/shm")

_PREFIX: Final = "emotions-"
_LONGEST_NAME: Final = len(f"/{_PREFIX}12345678/results")


@contextmanager
def run_directory() -> Iterator[Path]:
    """Give the directory of the run's sockets. Raises UserError if none can be made."""
    try:
        made = _make_directory(_parent_directory())
    except OSError as error:
        raise UserError(f"no directory for the run's sockets: {error}; set TMPDIR to another disk") from error
    with _removed_at_end(*made) as directory:
        yield directory


@contextmanager
def frames_directory() -> Iterator[Path | None]:
    """Give the directory in which the processes of a run share frames; None where it can't be made."""
    try:
        made = _make_directory(SHARED_MEMORY)
    except OSError:  # no /dev/shm, or a full one: frames travel in messages
        yield None
        return
    with _removed_at_end(*made) as directory:
        yield directory


def _make_directory(place: Path) -> tuple[Path, int | None]:
    """Make a directory that only its owner can enter; return it and its lock. Raises OSError.

    The directories of killed runs are removed first: the lock on a directory ends with its run.
    """
    _sweep(place)
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=place))  # mkdtemp makes it 0700
    lock = _lock(made)
    return made.rename(place / made.name[1:]), lock  # other runs don't see it until it is locked


@contextmanager
def _removed_at_end(directory: Path, lock: int | None) -> Iterator[Path]:
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _sweep(place: Path) -> None:
    """Remove the directories of this user's killed runs."""
    for directory in place.glob(f"{_PREFIX}????????"):
        with suppress(OSError):  # another run sweeps as well
            lock = _lock(directory) if is_ours(directory) else None
            if lock is not None:
                shutil.rmtree(directory, ignore_errors=True)
                os.close(lock)


def _lock(directory: Path) -> int | None:
    """Lock a directory; return the descriptor, or None if another process has the lock, or on Windows."""
    if sys.platform == "win32":
        return None
    handle = os.open(directory, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _parent_directory() -> Path:
    """Return the first usual place that is writable and short enough for the path of a socket."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    places = [Path(tempfile.gettempdir()), Path("/tmp")]
    if runtime and is_ours(Path(runtime)):
        places.insert(0, Path(runtime))
    for place in places:
        short = len(os.fsencode(place)) + _LONGEST_NAME <= IPC_PATH_MAX or not has_ipc()
        if short and os.access(place, os.W_OK | os.X_OK):
            return place
    raise UserError(
        f"no directory for the run's sockets: {places[0]} is too long or can't be written; set TMPDIR"
    )
