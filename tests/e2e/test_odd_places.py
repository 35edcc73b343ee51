"""Runs in odd terminals and on strange machines."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.media import noise, write_clip
from tests.support.mjpeg import MjpegCamera
from tests.support.runs import CLIP_FRAMES, Start, balance, processes_of, read_jsonl

OWN_GROUP = [sys.executable, "-c", "import os, sys; os.setpgid(0, 0); os.execvp(sys.argv[1], sys.argv[1:])"]
"""As a shell starts a command: Ctrl-Z stops no process of whose group none could be continued."""

STRANGE = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && ulimit -v 1500000 && exec taskset -c 0 "$@"'
LONG_AGO_S = -1_700_000_000

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="these terminals and machines are Linux's"),
]


def state(pid: int) -> str:
    """The letter of a process's state: T if it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_ctrl_z_pauses_all_processes_and_fg_goes_on(
    start: Start, quick: list[str], clip: Path, tmp_path: Path
) -> None:
    """The stream is closed meanwhile, so that a camera would be free; no frame is lost."""
    results = tmp_path / "r.jsonl"

    def written() -> int:
        return results.read_bytes().count(b'"source":"clip.mp4"')

    with MjpegCamera() as camera:
        sources = "--source", clip, "--source", camera.url
        paced = "--set", "capture.pace_fps=5"
        run = start(*quick, *paced, *sources, "--results", results, inside=OWN_GROUP)
        run.until_records(results, 20)
        run.signal(signal.SIGTSTP)
        everything = [run.process.pid, *processes_of(run.place)]
        run.until(lambda: all(state(pid) == "T" for pid in everything))
        run.until(lambda: camera.readers == 0)
        assert written() < CLIP_FRAMES
        run.signal(signal.SIGCONT)
        run.line("continued after ")
        run.until(lambda: written() == CLIP_FRAMES and camera.readers == 1)
        run.signal(signal.SIGINT)
        done = run.end()
    assert (done.status, done.errors) == (130, [])
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    records = [record for record in read_jsonl(results) if record["source"] != "clip.mp4"]
    assert [record["frame"] for record in records] == list(range(len(records)))
    assert f"captured {len(records)} = " in done.stdout
    assert not [line for line in done.stderr if "died" in line or "silent" in line]


def test_started_by_cron_or_with_nohup(start: Start, quick: list[str], clip: Path, tmp_path: Path) -> None:
    """No HOME, no language, a screen that is long gone, and the terminal goes too."""
    named, results = tmp_path / "cl\u00efp.mp4", tmp_path / "r.jsonl"
    shutil.copy(clip, named)
    run = start(
        *quick, "--set", "display.mode=auto", "--set", "capture.pace_fps=20", "--source", named,
        "--results", results, inside=["env", "-u", "HOME", "nohup"],
        LC_ALL="C", PYTHONIOENCODING="ascii", DISPLAY=":9999",
    )  # fmt: skip
    run.until_records(results, 1)
    run.signal(signal.SIGHUP)
    done = run.end()
    assert (done.status, done.errors) == (0, [])
    assert f"cl\\xefp.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    assert sum("cannot open a window on :9999: the status is shown here" in line for line in done.stderr) == 1


def test_one_core_little_memory_a_tiny_dev_shm_and_a_clock_in_1970(
    start: Start, model: Path, clip: Path, stepper: Path, tmp_path: Path
) -> None:
    inside = ["unshare", "-m", "sh", "-c", STRANGE, "sh"]
    tried = subprocess.run([*inside, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no such machine can be made here: {tried.stderr.strip()}")
    clock, results = tmp_path / "clock", tmp_path / "r.jsonl"
    clock.write_text(str(LONG_AGO_S))
    done = start(
        "--source", clip, "--set", f"classify.model={model}", "--display", "none", "--results", results,
        "--record", tmp_path / "v.mkv", inside=inside, LD_PRELOAD=str(stepper), CLOCK_STEP=str(clock),
    ).end()  # fmt: skip
    assert (done.status, done.errors) == (0, [])
    assert balance(CLIP_FRAMES, CLIP_FRAMES) in done.stdout
    assert all(record["latency_ms"] >= 0 for record in read_jsonl(results))


def test_too_little_memory_is_one_line(start: Start, quick: list[str], clip: Path) -> None:
    inside = ["sh", "-c", 'ulimit -v 250000 && exec "$@"', "sh"]
    done = start(*quick, "--source", clip, inside=inside).end()
    assert done.status == 2
    (error,) = done.errors
    assert "no memory or no thread left" in error and "ulimit -v" in error


def test_thirty_two_sources(start: Start, quick: list[str], tmp_path: Path) -> None:
    for number in range(32):
        write_clip(tmp_path / f"{number}.mkv", [noise(number, 64, 48)] * 5)
    results = tmp_path / "r.jsonl"
    done = start(*quick, "--source", tmp_path / "*.mkv", "--results", results).end()
    assert (done.status, done.errors) == (0, [])
    assert f"all sources: {balance(160, 160)}" in done.stdout
    assert len({record["source"] for record in read_jsonl(results)}) == 32
