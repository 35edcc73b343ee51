"""The engine `ray`: Ray chooses the machines of capture, detect and classify; their messages go over ZeroMQ.

Each of these processes belongs to an actor, starts where Ray has put the actor, and dies with it. The
supervisor decides as it does on one machine. The broker, display and the page are processes of this machine,
on which the cluster's head must be. Frames never pass through Ray.
"""

import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from pipeline.common.errors import UserError
from pipeline.common.files import INSTALLED, PROJECT
from pipeline.config.schema import PipelineSettings
from pipeline.config.sources import SourceSpec
from pipeline.config.stage import ProcessPlan, StageSpec
from pipeline.supervisor.child_process import Child, ChildProcess, Lines
from pipeline.supervisor.log import json_line
from pipeline.supervisor.plan import laid_out, run_directory
from pipeline.supervisor.reporter import Reporter
from pipeline.supervisor.runner import MAX_LINES, Runner, Signals, local_child
from pipeline.wire.addresses import free_port
from pipeline.wire.assignment import Assignment

POLL_S: Final = 0.05
PLACE_S: Final = 3.0
"""A process that waits longer for a machine is logged."""

OF_A_PLACE: Final = 0.001
"""A capture's share of a resource such as `camera:door`, of which a machine has one."""

NOT_NEEDED: Final = ("tests", "docs", "trainer", "bench", "tools", "runs", "models/*.keras")
"""Of a checkout: everything else travels to the machines of the cluster."""

ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of signals to processes that have ended
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Detect a lost machine after 3 s, not 16. In an existing cluster its head decides.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}

ray: Any = None
"""The package, which takes a second to load, once a run needs it."""


class Placed(NamedTuple):
    """The first message about a process."""

    pid: int
    address: str


# ------------------------------------------------------------------------------- on the cluster's machines


class Place:
    """An actor, on the machine that Ray has chosen. It owns one process at a time."""

    def __init__(self) -> None:
        self._child: ChildProcess | None = None

    def run(self, encoded: bytes, threads: int, keys: dict[str, bytes]) -> Iterator[Placed | str | int]:
        """Start a process; yield its place, then each line that it writes, then its exit status.

        encoded: its assignment, as JSON. keys: the files of its keys by name.
        """
        if self._child is not None:  # the run has lost it, and starts another
            self._child.kill()
        assignment = msgspec.json.decode(encoded, type=Assignment)
        if assignment.frames and not Path(assignment.frames).is_dir():  # another machine's memory
            assignment = msgspec.structs.replace(assignment, frames="")
        lines: Lines = queue.Queue(MAX_LINES)
        with run_directory() as directory:
            if keys:
                assignment = msgspec.structs.replace(assignment, keys=str(directory))
            for name, content in keys.items():
                (directory / name).touch(mode=0o600)
                (directory / name).write_bytes(content)
            child = self._child = ChildProcess(assignment, threads, lines)
            # In this thread: when a thread ends, Linux kills the processes that it has started.
            child.start()
            yield Placed(child.pid, node_address())
            yield from _followed(child, lines)

    def signal(self, number: int) -> None:
        if self._child is not None:
            self._child.signal(number)


def _followed(child: ChildProcess, lines: Lines) -> Iterator[str | int]:
    status: int | None = None
    while status is None:
        with suppress(queue.Empty):
            yield lines.get(timeout=POLL_S)[1]
        if lines.empty():
            status = child.reap()
    while not lines.empty():
        yield lines.get()[1]
    yield status


def ray_module() -> Any:
    """Return the package. Raises UserError where it is not installed."""
    global ray
    if ray is None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            import ray as package
        except ModuleNotFoundError as error:
            raise UserError(
                "--engine ray needs Ray: install it with `pip install -r requirements-ray.txt`"
            ) from error
        logging.getLogger("ray").setLevel(logging.ERROR)  # its import has set another
        # Ray prints lost machines to standard output, among a run's records, and has no option for it.
        package._private.worker._worker_logs_enabled = False
        ray = package
    return ray


def node_address() -> str:
    address: str = ray_module().util.get_node_ip_address()
    return address


# ------------------------------------------------------------------------------------- on the run's machine


class RayChild:
    """A process that Ray places, as the runner sees it."""

    def __init__(self, plan: ProcessPlan, assignment: Assignment, lines: Lines, place: str) -> None:
        """`place`: a resource that its machine must have; empty: cores alone decide."""
        self.placed = True
        self.lost = False
        self.pid = 0
        self._threads = plan.threads
        self._assignment = assignment
        self._keys = key_files(assignment)
        self._lines = lines
        self._needs = {place: OF_A_PLACE} if place else {}
        self._cores = 0 if place or plan.source else plan.threads
        self._actor: Any = None
        self._leaves = False
        self._status: int | None = None  # of an ended process, until it is reaped
        self._ended = threading.Event()
        self._ended.set()

    def start(self) -> None:
        """Have Ray start it on a machine. `placed` and `reap` return what follows."""
        package = ray_module()
        if self._actor is None:
            self._actor = (
                package.remote(Place)
                .options(
                    num_cpus=self._cores,
                    resources=self._needs,
                    max_restarts=-1,  # on another machine, if its own is lost
                    max_concurrency=4,
                    scheduling_strategy="SPREAD" if not self._needs else "DEFAULT",
                )
                .remote()
            )
        self.placed = self.lost = self._leaves = False
        self._status = None
        self._ended.clear()
        threading.Thread(target=self._listen, args=(self._actor,), daemon=True).start()
        threading.Thread(target=self._tell_if_unplaced, daemon=True).start()

    def reap(self) -> int | None:
        """Return the exit status once, as `ChildProcess.reap` does."""
        status, self._status = self._status, None
        if status is not None and self._leaves:
            self.close()
        return status

    def terminate(self) -> None:
        self._leaves = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def wait(self, timeout_s: float) -> bool:
        return not self.placed or self._ended.wait(timeout_s)

    def close(self) -> None:
        """Release the actor and its share of the machine."""
        actor, self._actor = self._actor, None
        if actor is not None:
            ray_module().kill(actor)

    def _signal(self, number: int) -> None:
        if self.placed and self._actor is not None:
            self._actor.signal.remote(int(number))
        elif self._actor is not None:  # it has not started
            self.close()

    def _listen(self, actor: Any) -> None:
        """Have the actor start the process, and read its messages until one of the two has ended."""
        status, errors = -int(signal.SIGKILL), ray_module().exceptions
        while True:
            try:
                status = self._hear(actor)
            except errors.RayActorError:  # the machine or the actor is lost
                if not self.placed and self._actor is actor:  # Ray has not noticed yet
                    time.sleep(POLL_S)
                    continue
                self.lost = True
            except errors.RayError as error:  # it could not be started
                self._say(f"error: {str(error).strip().splitlines()[-1]}")
            break
        self.placed, self._status = True, status
        self._ended.set()

    def _hear(self, actor: Any) -> int:
        """Return the exit status. Raises RayError if none comes."""
        said = actor.run.remote(msgspec.json.encode(self._assignment), self._threads, self._keys)
        status = -int(signal.SIGKILL)
        for item in map(ray_module().get, said):
            match item:
                case Placed(pid, address):
                    self.pid, self.placed = pid, True
                    self._say(f"runs on {address}")
                case str():
                    self._lines.put((self._assignment.name, item))
                case int():
                    status = item
        return status

    def _tell_if_unplaced(self) -> None:
        if not self._ended.wait(PLACE_S) and not self.placed:
            needed = ", ".join(self._needs) or f"a core that is free (asks for {self._cores})"
            self._say(f"waits for a machine with {needed}")

    def _say(self, text: str) -> None:
        name = self._assignment.name
        plain = f"{time.strftime('%H:%M:%S')} {name}: {text}"
        self._lines.put((name, json_line(name, "info", text) if self._assignment.log_json else plain))


def key_files(assignment: Assignment) -> dict[str, bytes]:
    """Return the files that a process needs of the run's keys: its own secret and the broker's public key."""
    if not assignment.keys:
        return {}
    from pipeline.wire.keys import stage_keys

    directory = Path(assignment.keys)
    names = ("broker.public", f"{stage_keys(directory, assignment.role).name}.secret")
    return {name: (directory / name).read_bytes() for name in names}


# --------------------------------------------------------------------------------------------------- a run


def run_on_ray(
    stages: Sequence[StageSpec[Any]],
    settings: PipelineSettings,
    sources: list[SourceSpec],
    reporter: Reporter,
) -> int:
    """Run the pipeline on a cluster until its end; return the exit status.

    `settings` are resolved. Raises UserError for what is wrong before any process has started.
    """
    steps = [spec for spec in stages if spec.step is not None]
    scaled = [spec for spec in steps if "workers" in spec.settings.__struct_fields__]
    least = {spec.role: max(1, settings.of(spec.settings).workers) for spec in scaled}
    with joined(settings, reporter), run_directory() as directory, Signals() as signals:
        settings = spread(settings, stages, scaled, directory)
        with laid_out(stages, settings, sources, frozenset(spec.role for spec in stages)) as plan:
            roles = {spec.role for spec in steps}
            away = {
                source.name: source.place for source in sources if source.place or source.form == "stream"
            }
            placed = [one.name for one in plan.processes if one.role in roles or one.source in away]
            plan = plan._replace(placed=frozenset(placed), least=least)

            def make_child(process: ProcessPlan, assignment: Assignment, lines: Lines) -> Child:
                if process.name not in plan.placed:
                    return local_child(process, assignment, lines)
                return RayChild(process, assignment, lines, away.get(process.source, ""))

            return Runner(settings, plan, reporter, signals, make_child=make_child).run()


@contextmanager
def joined(settings: PipelineSettings, reporter: Reporter) -> Iterator[None]:
    """Join the cluster, or start one on this machine; at the end, remove what the run had there."""
    package, address = ray_module(), settings.ray.address
    options: dict[str, Any] = {}
    if not INSTALLED:  # each machine gets this checkout, so that all run the same version of it
        options["runtime_env"] = {"working_dir": str(PROJECT), "excludes": list(NOT_NEEDED)}
    options |= {"address": address} if address else {"address": "local", "include_dashboard": False}
    try:
        package.init(log_to_driver=False, logging_level="error", configure_logging=False, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"ray.address: no cluster at {address or 'this machine'}: {first}; start its head here "
            "with: ray start --head (docs/machines.md)"
        ) from error
    try:
        reporter.info(f"Ray: {sum(node['Alive'] for node in package.nodes())} machines")
        yield
    finally:
        package.shutdown()


def spread(
    settings: PipelineSettings,
    stages: Sequence[StageSpec[Any]],
    scaled: Sequence[StageSpec[Any]],
    directory: Path,
) -> PipelineSettings:
    """Return the settings with what a cluster needs: an address for its machines, keys, more workers.

    directory: of the run, for keys where none are named.
    """
    broker, security, change = settings.broker, settings.security, msgspec.structs.replace
    if not broker.address:
        here = node_address()
        broker = change(broker, address=f"tcp://{here}:{free_port(here)}")
    if not security.keys:
        from pipeline.wire.keys import make_keys

        security = change(security, keys=str(directory / "keys"))
        make_keys(directory / "keys", [spec.role for spec in stages])
    tables = [settings.of(spec.settings) for spec in scaled]
    most = [change(table, workers=max(table.workers, settings.ray.max_workers)) for table in tables]
    return settings.replace(broker, security, *most)
