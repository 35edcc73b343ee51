"""The private directory of a run, and those of runs that were killed."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.common.files import PROJECT
from pipeline.supervisor.plan import frames_directory, run_directory
from pipeline.wire.addresses import IPC_PATH_MAX, broker_address, check_bindable
from tests.support.models import save_onnx
from tests.support.small_disk import small_disk

HOLDER = """
import sys
from pipeline.supervisor.plan import frames_directory, run_directory
with run_directory() as directory:
    print(directory, flush=True)
    sys.stdin.read()
"""


def test_the_directory_of_a_run_is_closed_to_others_and_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with run_directory() as directory:
        assert directory.parent == tmp_path
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        address = broker_address("", directory)
        check_bindable(address)
        (directory / "work").touch()
    assert not directory.exists()


def test_it_goes_when_the_run_fails_too() -> None:
    with pytest.raises(ZeroDivisionError), run_directory() as directory:
        raise ZeroDivisionError
    assert not directory.exists()


def test_a_runtime_directory_that_is_not_there_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    with run_directory() as directory:
        assert directory.is_dir()


def test_a_place_with_too_long_a_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with run_directory() as directory:
        assert len(os.fsencode(directory / "results")) <= IPC_PATH_MAX


def test_what_a_killed_run_left_goes_with_the_next_and_what_runs_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    holders = []
    for _ in range(2):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout is not None
        holders.append((holder, Path(holder.stdout.readline().strip())))
    (killed, left), (running, held) = holders
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert left.is_dir()
    with run_directory() as own:
        assert sorted(tmp_path.iterdir()) == sorted([own, held])
    running.communicate()
    assert list(tmp_path.iterdir()) == []


def test_frames_have_a_directory_in_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.supervisor.plan.SHARED_MEMORY", tmp_path)
    with frames_directory() as directory:
        assert directory is not None and directory.parent == tmp_path
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert not list(tmp_path.iterdir())


def test_system_without_shared_memory_has_no_directory_of_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.supervisor.plan.SHARED_MEMORY", tmp_path / "none")
    with frames_directory() as directory:
        assert directory is None


@pytest.mark.parametrize(
    ("options", "said"),
    [("size=64k,nr_inodes=2", "no directory for the run's sockets"), ("size=8k", "display.json")],
)
def test_no_room_for_the_directory_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, said: str
) -> None:
    """On a disk that is full; the results of an earlier run are still there."""
    runtime, results = tmp_path / "runtime", tmp_path / "r.jsonl"
    runtime.mkdir()
    results.write_text("of an earlier run")
    model = save_onnx(tmp_path / "tiny.onnx", {"fer2013": 0})
    words = [
        "--source",
        "demo",
        "--display",
        "none",
        "--set",
        f"classify.model={model}",
        "--results",
        results,
    ]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("TMPDIR", str(runtime))
    with small_disk(runtime, options) as full:
        full.fill()
        command = [*full.inside, sys.executable, "run.py", *words]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    errors = [line for line in done.stderr.splitlines() if "error: " in line]
    assert done.returncode == 2
    assert len(errors) == 1 and said in errors[0], done.stderr
    assert "No space left on device" in errors[0] and "TMPDIR" in errors[0]
    assert results.read_text() == "of an earlier run"
