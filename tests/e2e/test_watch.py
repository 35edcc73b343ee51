"""Records of a run on standard output, from Python with `watch`, and its log for programs."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import emotions
from pipeline.common.files import PROJECT
from tests.support.runs import CLIP_FRAMES, LIMIT_S, balance, check_record, processes_of, same_but_for_time


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The TMPDIR of the runs of a test, none of whose processes may be left; short, as sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"):
            monkeypatch.delenv(name, raising=False)
        yield Path(folder)
        assert not processes_of(Path(folder))
        assert list(Path(folder).glob("emotions-*")) == []


@pytest.fixture(scope="session")
def settings(quick: list[str]) -> list[str]:
    """The options of `quick` as `watch` takes them."""
    return [word for word in quick if word != "--set" and not word.startswith("display")]


def as_json(records: list[emotions.Record]) -> list[dict[str, Any]]:
    return [json.loads(msgspec.json.encode(record)) for record in records]


def test_records_are_those_of_a_results_file(
    place: Path, clip: Path, settings: list[str], undisturbed: list[dict[str, Any]]
) -> None:
    with emotions.watch(clip, *settings) as records:
        watched = as_json(list(records))
    same_but_for_time(watched, undisturbed)
    analyser = emotions.load(*settings)
    same_but_for_time(as_json(list(analyser.analyse_video(clip))), undisturbed)


def test_a_loop_that_is_left_ends_the_run(place: Path, settings: list[str]) -> None:
    for record in emotions.watch(["demo", "demo:2"], *settings, "capture.repeat=0"):
        assert record.status == "ok"
        break
    assert not processes_of(place)
    with emotions.watch("demo", *settings, "capture.repeat=0") as records:
        next(iter(records))
    assert not processes_of(place)
    with pytest.raises(emotions.Error, match="this run is over"):
        next(iter(records))


def test_an_error_in_the_loop_is_the_callers(place: Path, settings: list[str]) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        emotions.watch("demo", *settings, "capture.repeat=0") as records,
    ):
        for record in records:
            print(1 / record.frame)
    assert not processes_of(place)


def test_a_run_that_is_refused_is_one_line(place: Path) -> None:
    with pytest.raises(emotions.Error, match=r"none\.mp4.*no such file") as caught:
        list(emotions.watch("none.mp4"))
    assert "\n" not in str(caught.value)


def test_a_run_ends_with_the_program_that_watches(place: Path, settings: list[str]) -> None:
    """However that ends."""
    code = (
        "import emotions, sys\n"
        "for record in emotions.watch('demo', *sys.argv[1:]): print(record.frame, flush=True)"
    )
    watcher = subprocess.Popen(
        [sys.executable, "-c", code, *settings, "capture.repeat=0"], cwd=PROJECT, stdout=subprocess.PIPE
    )
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == b"0\n"
    watcher.send_signal(signal.SIGKILL)
    watcher.wait(LIMIT_S)
    watcher.stdout.close()
    left = processes_of(place)
    while any(path.exists() for path in (Path(f"/proc/{pid}") for pid in left)):
        left = {pid: command for pid, command in processes_of(place).items() if pid in left}


def test_a_loop_that_is_half_way_when_the_program_ends(place: Path, settings: list[str]) -> None:
    code = (
        "import emotions, sys\n"
        "records = iter(emotions.watch('demo', *sys.argv[1:]))\n"
        "print(next(records).frame)"
    )
    words = [sys.executable, "-c", code, *settings, "capture.repeat=0"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=LIMIT_S)
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)


def test_results_on_standard_output(place: Path, clip: Path, quick: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "run.py", *quick, "--source", str(clip), "--results", "-"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    for record in records:
        check_record(record)
    assert [record["frame"] for record in records] == list(range(CLIP_FRAMES))
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stderr
    assert done.returncode == 0


def test_a_reader_that_goes_ends_the_run_well(place: Path, quick: list[str]) -> None:
    words = [
        sys.executable,
        "run.py",
        *quick,
        "--source",
        "demo",
        "--set",
        "capture.repeat=0",
        "--results",
        "-",
    ]
    run = subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None and run.stderr is not None
    assert json.loads(run.stdout.readline())["frame"] == 0
    run.stdout.close()
    said = run.stderr.read().decode()
    run.stderr.close()
    assert run.wait(LIMIT_S) == 0
    assert "demo: captured" in said
    assert "error" not in said


def run_it(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "run.py", *words]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=LIMIT_S)


def test_quiet_says_nothing_of_a_run_that_goes_well(place: Path, clip: Path, quick: list[str]) -> None:
    done = run_it(*quick, "--source", str(clip), "--quiet")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_every_line_of_the_log_is_json(place: Path, clip: Path, quick: list[str]) -> None:
    done = run_it(*quick, "--source", str(clip), "--log-json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"run", "display"} <= {line["process"] for line in lines}
    assert all(line["level"] == "info" and line["time"] for line in lines)
    assert any("frames without a face" in line["message"] for line in lines)
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    refused = run_it(*quick, "--source", "none.mp4", "--log-json")
    assert refused.returncode == 2
    assert "no such file" in json.loads(refused.stderr.splitlines()[-1])["message"]
