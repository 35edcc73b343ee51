"""One child process: started, listened to, and stopped by a bounded ladder."""

import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from pipeline.assignment import Assignment
from pipeline.plan import ProcessPlan, RunPlan, thread_limits

ROOT: Final = Path(__file__).resolve().parent.parent


class ChildProcess:
    """A planned process and its incarnations. What it writes to stderr goes line by line to `on_line`."""

    def __init__(
        self, plan: ProcessPlan, run: RunPlan, *, max_message_bytes: int, log_level: str,
        on_line: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.plan = plan
        self.slot = f"{plan.name}-{secrets.token_hex(6)}"
        self.starts = 0
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
            name=self.plan.name,
            slot=self.slot,
            incarnation=self.starts,
            parent_pid=os.getpid(),
            address=self._run.address,
            publish=self._run.publish,
            max_message_bytes=self._max_message_bytes,
            log_level=self._log_level,
            options=msgspec.Raw(msgspec.json.encode(self.plan.options)),
        )
        self.starts += 1
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "pipeline.child", self.plan.name],
            cwd=None,
            env={**os.environ, **thread_limits(self.plan.threads), "PYTHONPATH": _python_path()},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._pass_lines, args=(self._popen,), daemon=True)
        self._reader.start()
        stdin = self._popen.stdin
        assert stdin is not None
        try:
            stdin.write(msgspec.json.encode(assignment))
            stdin.close()
        except BrokenPipeError:
            pass  # it died at once: `poll` tells

    def poll(self) -> int | None:
        """The exit status once it is dead (negative: the signal that killed it), else None."""
        return None if self._popen is None else self._popen.poll()

    def terminate(self) -> None:
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
        """After its end: pass on the last lines and give the pipe back."""
        if self._popen is not None and self._reader is not None:
            self._reader.join()
            assert self._popen.stderr is not None
            self._popen.stderr.close()

    def _pass_lines(self, popen: subprocess.Popen[bytes]) -> None:
        assert popen.stderr is not None
        for line in popen.stderr:
            self._on_line(line.decode(errors="replace").rstrip())


def _python_path() -> str:
    """The project's root before whatever the user has set, so that a child finds the same code."""
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), inherited] if inherited else [str(ROOT)])
