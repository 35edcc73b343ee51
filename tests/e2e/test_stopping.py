"""Every way to end a run before its source does: outputs are complete, playable and balanced."""

import os
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runs import LIMIT_S, Run, Start, processes_of, read_jsonl, video_facts

ENDLESS = ["--set", "capture.repeat=0", "--set", "capture.pace_fps=25"]


def balanced(stdout: str, records: int) -> bool:
    """Whether the summary's first line counts as many outcomes as there are records."""
    first = stdout.splitlines()[0]
    found = re.search(r"captured (\d+) = ok (\d+) \+ dropped (\d+).* \+ failed (\d+)$", first)
    assert found, stdout
    captured, *parts = map(int, found.groups())
    return captured == sum(parts) == records


def test_sigterm_ends_the_run_in_order(start: Start, quick: list[str], clip: Path, tmp_path: Path) -> None:
    results, video = tmp_path / "r.jsonl", tmp_path / "v.mp4"
    run = start(*quick, *ENDLESS, "--source", clip, "--results", results, "--record", video)
    run.until_records(results, 10)
    run.signal(signal.SIGTERM)
    done = run.end()
    assert done.status == 143
    records = read_jsonl(results)
    assert [record["frame"] for record in records] == list(range(len(records)))
    assert balanced(done.stdout, len(records))
    shown = sum(record["status"] == "ok" for record in records)
    assert video_facts(video) == (shown, 480, 270)


def test_the_second_signal_ends_it_at_once(
    start: Start, quick: list[str], clip: Path, tmp_path: Path
) -> None:
    """Even where a stage does not end: detect is stopped, so that the first signal alone would take long."""
    results, video = tmp_path / "r.jsonl", tmp_path / "v.mkv"
    patient = ["--set", "run.stop_timeout_s=1000", "--set", "broker.peer_timeout_s=1000"]
    run = start(*quick, *ENDLESS, *patient, "--source", clip, "--results", results, "--record", video)
    run.until_records(results, 40)
    for name in ("detect-1", "detect-2", "broker"):
        os.kill(run.pid(name), signal.SIGSTOP)
    run.signal(signal.SIGINT)
    # Python loses a second signal that comes before it has handled the first. Its main thread handles signals
    # after each wait, of which a turn of the supervisor's loop has at least one.
    before = waits(run)
    run.until(lambda: not pending(run, signal.SIGINT) and waits(run) >= before + 10)
    run.signal(signal.SIGINT)
    assert run.end().status == 130
    assert len(read_jsonl(results)) >= 40
    assert video_facts(video)[0] >= 1


def status_of(run: Run) -> str:
    return Path(f"/proc/{run.process.pid}/status").read_text()


def waits(run: Run) -> int:
    """Return how often the main thread of run.py has begun to wait for something."""
    found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status_of(run), re.MULTILINE)
    assert found, status_of(run)
    return int(found[1])


def pending(run: Run, number: int) -> bool:
    """Whether a signal has been sent to run.py that it has not taken yet."""
    masks = re.findall(r"(?:SigPnd|ShdPnd):\s*([0-9a-f]+)", status_of(run))
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def test_no_child_outlives_a_killed_run(start: Start, quick: list[str], clip: Path, tmp_path: Path) -> None:
    results, video = tmp_path / "r.jsonl", tmp_path / "v.mkv"
    run = start(*quick, *ENDLESS, "--source", clip, "--results", results, "--record", video)
    run.until_records(results, 40)
    os.kill(run.pid("detect-1"), signal.SIGSTOP)  # a stopped one goes as well
    assert len(processes_of(run.place)) == 6
    run.signal(signal.SIGKILL)
    run.process.wait(LIMIT_S)
    gone(run, within_s=2.0)
    assert len(read_jsonl(results)) >= 40
    assert video_facts(video)[0] >= 1


def gone(run: Run, within_s: float) -> None:
    """Wait for the end of all of a dead run's children, each as long as is left of the time."""
    for pid in processes_of(run.place):
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with os.fdopen(handle, "rb"):
            assert select.select([handle], [], [], within_s)[0], f"{pid} is still there"


@pytest.fixture
def screen() -> Iterator[str]:
    """A screen of our own."""
    for tool in ("Xvfb", "xdotool"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: no window to press q in")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as number:
        yield f":{number.readline().strip()}"
    server.terminate()
    server.wait(LIMIT_S)


def test_q_in_the_window(start: Start, quick: list[str], clip: Path, screen: str, tmp_path: Path) -> None:
    """A watched file plays at its own rate and never drops; `q` ends it with 0."""
    results, video = tmp_path / "r.jsonl", tmp_path / "v.mkv"
    run = start(
        *quick, "--set", "capture.repeat=0", "--source", clip, "--display", "window",
        "--results", results, "--record", video, DISPLAY=screen,
    )  # fmt: skip
    run.until_records(results, 10)
    command = ["xdotool", "search", "--sync", "--onlyvisible", "--name", "^clip.mp4 - ", "key", "q"]
    environment = os.environ | {"DISPLAY": screen}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=LIMIT_S)
    done = run.end()
    assert done.status == 0
    records = read_jsonl(results)
    assert balanced(done.stdout, len(records))
    assert video_facts(video)[0] == sum(record["status"] == "ok" for record in records)
