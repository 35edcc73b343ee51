"""What Linux has and macOS or Windows have not: the pipeline does without."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pipeline.broker.main import OPEN_MAX, take_all_descriptors
from pipeline.common.files import PROJECT
from pipeline.common.native_output import quiet_native
from pipeline.config.stage import cores
from pipeline.supervisor.child_main import KILLED_STATUS
from pipeline.supervisor.runner import Signals
from pipeline.wire.assignment import Assignment
from stages.capture.sources.camera import MOST_CAMERAS, candidates
from stages.display.spec import DisplaySettings, resolve

WINDOWS = """
import socket, sys
import asyncio, msgspec, zmq, zmq.auth  # which would import parts that are on Windows only

sys.platform = "win32"
sys.modules.update(dict.fromkeys(["fcntl", "pwd", "resource"]))
del socket.AF_UNIX

from pipeline.broker.main import Memory, take_all_descriptors
from pipeline.wire.addresses import broker_address, check_free
from pipeline.supervisor.plan import run_directory
from pipeline.wire.keys import broker_keys, user_directory
from stages.stage import ROLES

take_all_descriptors()
Memory(limit_bytes=0).end_if_swollen()
with run_directory() as directory:
    address = broker_address("", directory)
    check_free(address)
broker_keys(user_directory(ROLES))
print(directory.exists(), address)
"""

CHILD = """
import sys, threading, types
from pipeline.supervisor import child_main

def run(assignment, stop):
    print("up", flush=True)
    threading.Event().wait()

sys.platform = "darwin"
sys.modules["waits"] = types.SimpleNamespace(run=run)
child_main.main()
"""


def test_sockets_directory_and_keys_on_windows(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS],
        cwd=PROJECT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("False tcp://127.0.0.1:"), done.stderr


def test_child_ends_with_its_parent_where_the_system_does_not_see_to_it() -> None:
    options = msgspec.Raw(b"{}")
    assignment = Assignment("detect", "waits", "detect-1", "run/detect-1", 1, "", "", 1, "info", options)
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(msgspec.json.encode(assignment) + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"up\n"
        process.stdin.close()  # as the end of the parent does
        assert process.wait() == KILLED_STATUS


def test_open_files_on_macos_are_limited_by_open_max(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []

    def set_limit(_: int, limits: tuple[int, int]) -> None:
        if limits[0] > OPEN_MAX:
            raise ValueError("current limit exceeds maximum limit")
        given.append(limits)

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, sys.maxsize))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    take_all_descriptors()
    assert given == [(OPEN_MAX, sys.maxsize)]


def test_cores_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cores() == os.cpu_count()


def test_signals_without_hang_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    with Signals() as signals:
        signal.raise_signal(signal.SIGTERM)
    assert signals.received == [signal.SIGTERM]


def test_native_output_without_files_in_memory(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with quiet_native():
        os.write(2, b"chatter\n")
    with pytest.raises(ZeroDivisionError), quiet_native():
        os.write(2, b"the reason\n")
        raise ZeroDivisionError
    assert capfd.readouterr().err == "the reason\n"


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_screen_and_cameras_that_nothing_lists(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.display.spec.window_trouble", lambda: "")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", system)
    assert resolve(DisplaySettings())[0].mode == "window"
    assert candidates() == list(range(MOST_CAMERAS))
