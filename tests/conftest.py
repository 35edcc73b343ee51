"""What all tests share."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pipeline.common.files import PROJECT

# Hypothesis' limits of time for an example would fail tests on a loaded machine.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of test data beside the project; it is not part of it."""
    folder = PROJECT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: the clips and data sets for tests are not part of the project")
    return folder


def _children() -> dict[int, str]:
    """Return the command lines of the processes that this one has started and that still run, by pid."""
    found = {}
    for listing in Path("/proc/self/task").glob("*/children"):  # Linux only: elsewhere there are none to see
        for pid in listing.read_text().split():
            with contextlib.suppress(FileNotFoundError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if command and "resource_tracker" not in command:  # empty: ended, not yet waited for
                    found[int(pid)] = command.strip()
    return found


@pytest.fixture(autouse=True)
def _no_child_left() -> Iterator[None]:
    """A test ends with no process of its own still running; one that is left is killed."""
    before = _children()
    yield
    left = {pid: command for pid, command in _children().items() if pid not in before}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"processes left over: {'; '.join(left.values())}"


@pytest.fixture(scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of the tests keep this user's keys."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch, state_home: Path) -> None:
    """Nothing of the user's environment decides a test, and no test writes to his home."""
    monkeypatch.setenv("XDG_STATE_HOME", str(state_home))
    for name in (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
