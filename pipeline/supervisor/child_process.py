"""One child process: its start, its output, signals, and its end."""

import errno
import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from pipeline.common.files import python_path
from pipeline.config.schema import PipelineSettings
from pipeline.config.stage import ProcessPlan
from pipeline.supervisor.plan import RunPlan, thread_limits
from pipeline.wire.assignment import STDIN_VARIABLE, STDOUT_VARIABLE, Assignment

LIBRARY_DEFAULTS: Final = {
    # glibc: keep freed blocks of up to 32 MiB, its limit. By default the memory of frames goes back to the
    # system, and on virtual machines the first access to each new page is slow.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(512 * 1024 * 1024),
    # OpenCV waits 10 s for a camera that has stalled. With 4 s it is reopened as soon as a stream is.
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "4",
}
"""Environment variables of every child, unless the user has set them."""

LAST_LINES_S: Final = 1.0
"""How long to wait for a dead child's last lines: another process may hold its end of the pipe open."""

Lines = queue.Queue[tuple[str, str]]
"""Names of processes, and lines that they have written."""


class Child(Protocol):
    """A planned process, on this machine or another, that is started once or more often."""

    @property
    def placed(self) -> bool:
        """Whether it has a machine to run on; it has not been started before."""

    @property
    def lost(self) -> bool:
        """Whether it was lost with its machine."""

    @property
    def pid(self) -> int: ...
    def start(self) -> None: ...
    def reap(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def wait(self, timeout_s: float) -> bool: ...
    def close(self) -> None: ...


class ChildProcess:
    """A process of this machine, started once or more. The lines that it writes go into a queue."""

    placed = True
    lost = False

    def __init__(
        self, assignment: Assignment, threads: int, lines: Lines, *, stdin: bool = False, stdout: bool = False
    ) -> None:
        """`threads`: of its numerical libraries. `stdin`, `stdout`: whether it gets this process's own."""
        self.name = assignment.name
        self.role = assignment.role
        self._assignment = assignment
        self._threads = threads
        self._lines = lines
        self._stdin = stdin and sys.platform != "win32"
        # Its own standard output is read for log lines, as every child's is.
        given = stdout and sys.platform != "win32"
        self._stdout = {STDOUT_VARIABLE: str(os.dup(1))} if given else {}
        self._popen: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._reaped = False

    @property
    def pid(self) -> int:
        """Of the present or last process; 0 before the first start."""
        return self._popen.pid if self._popen else 0

    def start(self) -> None:
        """Start a fresh interpreter, in a session of its own. Raises OSError if the system refuses."""
        assignment = msgspec.structs.replace(self._assignment, supervisor_pid=os.getpid())
        # Its own standard input has the assignment. Only the first process can read all of a pipe.
        given = self._stdin and self._popen is None
        of_run = {STDIN_VARIABLE: str(os.dup(0))} if given else {}
        files = self._stdout | of_run
        self._popen = subprocess.Popen(
            # -P: don't import modules from the user's working directory.
            [sys.executable, "-P", "-m", "pipeline.supervisor.child_main", self.name],
            env={
                **LIBRARY_DEFAULTS,
                **os.environ,
                **thread_limits(self._threads),
                "PYTHONPATH": python_path(),
                "PYTHONIOENCODING": "utf-8:backslashreplace",  # of the pipe that is read here
                **files,
            },
            pass_fds=[int(number) for number in files.values()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,  # libraries may print there
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reaped = False
        for number in of_run.values():
            os.close(int(number))
        reader = threading.Thread(target=self._pass_lines, args=(self._popen,), daemon=True)
        try:
            reader.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, str(error)) from error
        self._reader = reader
        stdin = self._popen.stdin
        assert stdin is not None
        try:
            stdin.write(msgspec.json.encode(assignment) + b"\n")
            stdin.flush()  # and stays open: see child_main.end_with_stdin
        except BrokenPipeError:
            pass  # it died at once: `reap` returns that

    def reap(self) -> int | None:
        """Return the exit status (negative: of a signal) once for each process, after its last lines."""
        status = None if self._popen is None or self._reaped else self._popen.poll()
        if status is not None:
            self._reaped = True
            self.close()
        return status

    def signal(self, number: int) -> None:
        if self._popen is not None:
            self._popen.send_signal(number)

    def stopped(self) -> bool:
        """Whether it is stopped or has ended; macOS only reports the latter."""
        if self.wait(0.0):
            return True
        if sys.platform != "linux":
            return False
        return os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None

    def terminate(self) -> None:
        if self._popen is not None:
            self._popen.terminate()

    def kill(self) -> None:
        if self._popen is not None:
            self._popen.kill()

    def wait(self, timeout_s: float) -> bool:
        """Return whether it ends within the time, or was never started."""
        if self._popen is None:
            return True
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """After its end: read the last lines and close the pipes."""
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
            self._lines.put((self.name, line.decode(errors="replace").rstrip()))


def make_assignment(plan: ProcessPlan, run: RunPlan, settings: PipelineSettings, instance: str) -> Assignment:
    """Return what a process needs to find the broker and do its work."""
    return Assignment(
        role=plan.role,
        module=plan.module,
        name=plan.name,
        instance=instance,
        supervisor_pid=os.getpid(),
        address=run.address if plan.role == "broker" else run.dialed,
        publish=run.publish,
        max_message_bytes=settings.broker.max_message_bytes,
        log_level=settings.log.level,
        log_json=settings.log.json,
        frames=run.frames,
        keys=run.keys_of(plan.role),
        options=msgspec.Raw(msgspec.json.encode(plan.options)),
    )
