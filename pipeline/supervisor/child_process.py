"""One child process: started, listened to, and stopped by a bounded ladder."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from pipeline.common.files import PROJECT
from pipeline.config.stage import ProcessPlan
from pipeline.supervisor.plan import RunPlan, thread_limits
from pipeline.wire.assignment import Assignment

LIBRARY_DEFAULTS: Final = {
    # glibc: freed blocks of up to 32 MiB (its limit) are kept and used again. By default the memory of frames
    # goes back to the system, and on virtual machines the first touch of each fresh page is dear.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(512 * 1024 * 1024),
    # OpenCV waits 10 s for a camera that has stalled; here it is told, and opened again, as soon as a stream.
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "4",
}
"""Of every child's environment, unless the user has set them."""

POLL_S: Final = 0.05
KILL_WAIT_S: Final = 2.0
LAST_LINES_S: Final = 1.0
"""Something else may hold a dead child's end of the pipe: its lines are not waited for longer."""


class ChildProcess:
    """A planned process and its incarnations. What it writes goes line by line to `on_line`."""

    def __init__(
        self, plan: ProcessPlan, run: RunPlan, *, max_message_bytes: int, log_level: str,
        parent_slot: str, on_line: Callable[["ChildProcess", str], None],
    ) -> None:  # fmt: skip
        """`parent_slot` is a secret of the parent's, by which the broker knows its children."""
        self.plan = plan
        self.slot = f"{parent_slot}/{plan.name}-{os.urandom(6).hex()}"
        self.starts = 0
        self.started_s = 0.0
        self.dismissed = False  # told to end: its end is no death
        self._run = run
        self._max_message_bytes = max_message_bytes
        self._log_level = log_level
        self._on_line = on_line
        self._popen: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def pid(self) -> int:
        return self._popen.pid if self._popen else 0

    def start(self) -> None:
        """Start the next incarnation: a fresh interpreter, in a session of its own."""
        assignment = Assignment(
            role=self.plan.role,
            module=self.plan.module,
            name=self.plan.name,
            slot=self.slot,
            incarnation=self.starts,
            parent_pid=os.getpid(),
            address=self._run.address if self.plan.role == "broker" else self._run.dialed,
            publish=self._run.publish,
            max_message_bytes=self._max_message_bytes,
            log_level=self._log_level,
            frames=self._run.frames,
            keys=self._run.keys_of(self.plan.role),
            options=msgspec.Raw(msgspec.json.encode(self.plan.options)),
        )
        self.starts += 1
        self.started_s = time.monotonic()
        self.dismissed = False
        self._popen = subprocess.Popen(
            # -P: modules of the folder that the user is in are not to be taken for the project's.
            [sys.executable, "-P", "-m", "pipeline.supervisor.child_main", self.plan.name],
            cwd=None,
            env={
                **LIBRARY_DEFAULTS,
                **os.environ,
                **thread_limits(self.plan.threads),
                "PYTHONPATH": _python_path(),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,  # what libraries print there is not the run's result
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._pass_lines, args=(self._popen,), daemon=True)
        self._reader.start()
        stdin = self._popen.stdin
        assert stdin is not None
        try:
            stdin.write(msgspec.json.encode(assignment) + b"\n")
            stdin.flush()  # it stays open: where the system has no better way, its end is the parent's
        except BrokenPipeError:
            pass  # it died at once: `poll` tells

    def poll(self) -> int | None:
        """The exit status once it is dead (negative: the signal that killed it), else None."""
        return None if self._popen is None else self._popen.poll()

    def terminate(self) -> None:
        self.dismissed = True
        if self._popen is not None:
            self._popen.terminate()

    def kill(self) -> None:
        if self._popen is not None:
            self._popen.kill()

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False if it has not come in time."""
        if self._popen is None:
            return True
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """After its end: pass on the last lines and give the pipes back."""
        if self._popen is not None and self._reader is not None:
            assert self._popen.stdin is not None
            with suppress(BrokenPipeError):
                self._popen.stdin.close()
            self._reader.join(LAST_LINES_S)
            if not self._reader.is_alive():
                assert self._popen.stdout is not None
                self._popen.stdout.close()

    def _pass_lines(self, popen: subprocess.Popen[bytes]) -> None:
        assert popen.stdout is not None
        for line in popen.stdout:
            self._on_line(self, line.decode(errors="replace").rstrip())


def stop_all(
    children: Sequence[ChildProcess], limit_s: float, hurry: Callable[[], bool]
) -> list[ChildProcess]:
    """The ladder: ask, wait, kill, wait. All are signalled first, then each is joined.

    `hurry` tells whether the waiting is to be cut short. Returns those that had to be killed.
    """
    running = [child for child in children if child.starts and child.poll() is None]
    for child in running:
        child.terminate()
    deadline_s = time.monotonic() + limit_s
    for child in running:
        while not child.wait(POLL_S) and time.monotonic() < deadline_s and not hurry():
            pass
    killed = [child for child in running if child.poll() is None]
    for child in killed:
        child.kill()
    for child in children:
        child.wait(KILL_WAIT_S)
        child.close()
    return killed


def _python_path() -> str:
    """The project's root before whatever the user has set, so that a child finds the same code."""
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(PROJECT), inherited] if inherited else [str(PROJECT)])
