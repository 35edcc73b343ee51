"""Runs that other programs read: from Python with `watch`, and through pipes."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import emotions
from pipeline.common.files import PROJECT
from tests.support.media import noise, write_film
from tests.support.runs import LIMIT_S, Start, check_record, processes_of, read_jsonl, same_but_for_time


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


def test_watch_gives_the_records_of_a_results_file(
    place: Path, clip: Path, settings: list[str], undisturbed: list[dict[str, Any]]
) -> None:
    """And so does the analyser, without processes."""
    with emotions.watch(clip, *settings) as records:
        watched = as_json(list(records))
    same_but_for_time(watched, undisturbed)
    analyser = emotions.load(*settings)
    same_but_for_time(as_json(list(analyser.analyse_video(clip))), undisturbed)


def test_leaving_the_loop_ends_the_run(place: Path, settings: list[str]) -> None:
    """By an error of the caller's, here."""
    records = emotions.watch(["demo", "demo:2"], *settings, "capture.repeat=0")
    with pytest.raises(ZeroDivisionError), records:
        for record in records:
            assert record.status == "ok"
            print(1 / record.frame)
    assert not processes_of(place)
    with pytest.raises(emotions.Error, match="this run is over"):
        next(iter(records))


def test_refused_run_is_one_line(place: Path) -> None:
    with pytest.raises(emotions.Error, match=r"none\.mp4.*no such file") as caught:
        list(emotions.watch("none.mp4"))
    assert "\n" not in str(caught.value)


def test_run_ends_with_the_program_that_watches(place: Path, settings: list[str]) -> None:
    """Though that is killed."""
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


def test_program_ends_half_way_through_its_loop(place: Path, settings: list[str]) -> None:
    code = (
        "import emotions, sys\n"
        "records = iter(emotions.watch('demo', *sys.argv[1:]))\n"
        "print(next(records).frame)"
    )
    words = [sys.executable, "-c", code, *settings, "capture.repeat=0"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=LIMIT_S)
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)


# --------------------------------------------------------------------------------------------------- pipes


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that can be piped: 40 frames."""
    path = tmp_path_factory.mktemp("film") / "film.ts"
    return write_film(path, [[noise(number, 64, 48) for number in range(40)]])


def test_video_piped_in_and_records_piped_out(
    place: Path, quick: list[str], film: Path, tmp_path: Path
) -> None:
    """Quietly, and from a folder whose modules have the names of those that are needed: none is loaded."""
    for package in ("pipeline", "stages", "numpy"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise AssertionError('of the current folder')")
    words = [sys.executable, str(PROJECT / "run.py"), *quick, "--source", "-", "--results", "-", "--quiet"]
    with subprocess.Popen(["cat", str(film)], stdout=subprocess.PIPE) as cat:
        done = subprocess.run(
            words, cwd=tmp_path, stdin=cat.stdout, capture_output=True, text=True, timeout=LIMIT_S
        )
    assert (done.stderr, done.returncode) == ("", 0)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    for record in records:
        check_record(record)
    assert [record["frame"] for record in records] == list(range(40))
    assert records[0]["source"] == "stdin"


def test_capture_that_dies_cannot_read_standard_input_again(
    start: Start, quick: list[str], film: Path, tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    reading, writing = os.pipe()
    words = ["--source", "-", "--results", results, "--set", "run.max_restarts=2"]
    run = start(*quick, *words, stdin=reading)
    os.close(reading)
    whole = threading.Event()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(film.read_bytes())
            file.flush()
            whole.wait(60)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        run.until_records(results, 20)
        os.kill(run.pid("capture-1"), signal.SIGKILL)
        done = run.end()
    finally:
        whole.set()
        writer.join()
    assert done.status == 1
    assert any("standard input can be read only once" in line for line in done.stderr)
    assert len(read_jsonl(results)) >= 20


def test_reader_of_the_records_that_goes_ends_the_run_well(place: Path, quick: list[str]) -> None:
    words = [*quick, "--source", "demo", "--set", "capture.repeat=0", "--results", "-"]
    run = subprocess.Popen(
        [sys.executable, "run.py", *words], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdout is not None and run.stderr is not None
    assert json.loads(run.stdout.readline())["frame"] == 0
    run.stdout.close()
    said = run.stderr.read().decode()
    run.stderr.close()
    assert run.wait(LIMIT_S) == 0
    assert "demo: captured" in said
    assert "error" not in said
