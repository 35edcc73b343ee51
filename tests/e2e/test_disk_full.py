"""Disks that are full, at the start and on the way; real ones."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from pipeline.common.files import PROJECT
from tests.support.runs import (
    CLIP_FRAMES,
    LIMIT_S,
    Run,
    Start,
    balance,
    read_csv,
    read_jsonl,
    same_but_for_time,
)
from tests.support.small_disk import Disk, small_disk

pytestmark = pytest.mark.long


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    with small_disk(path, "size=2m") as mounted:
        yield mounted


def nobody_died(stderr: list[str]) -> bool:
    print("\n".join(stderr))
    return not any("died" in line or "hangs" in line or "given up" in line for line in stderr)


def paced(start: Start, quick: list[str], clip: Path, disk: Disk, *outputs: object) -> Run:
    pace = ["--set", "capture.pace_fps=20", "--set", "capture.repeat=10"]
    return start(*quick, *pace, "--source", clip, *outputs, inside=disk.inside)


def test_room_that_comes_back_is_used(
    start: Start, quick: list[str], clip: Path, disk: Disk, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Nothing is lost, nobody is taken for hung, and the results are those of an undisturbed run."""
    results = disk.path / "r.jsonl"
    pace = ["--set", "capture.pace_fps=20"]
    run = start(*quick, *pace, "--source", clip, "--results", results, inside=disk.inside)
    run.until_records(disk.seen(results), 10)
    disk.fill()
    run.line(f"display: results {results}: No space left on device; waiting up to 10 s for room")
    disk.make_room()
    run.line(f"display: results {results}: is written again")
    run.until_records(disk.seen(results), CLIP_FRAMES)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(disk.seen(results).read_bytes())
    done = run.end()
    assert done.status == 0 and nobody_died(done.stderr) and done.errors == []
    same_but_for_time(read_jsonl(copy), undisturbed)
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_results_end_whole_on_a_disk_that_stays_full(
    start: Start, quick: list[str], clip: Path, disk: Disk, tmp_path: Path, name: str
) -> None:
    results = disk.path / name
    run = paced(start, quick, clip, disk, "--results", results)
    run.until_records(disk.seen(results), 10)
    disk.fill()
    done = run.end()
    assert done.status == 1 and nobody_died(done.stderr)
    assert done.errors == [f"error: results {results}: cannot be written any more: No space left on device"]
    copy = tmp_path / name
    copy.write_bytes(disk.seen(results).read_bytes())
    if name == "r.jsonl":
        assert copy.read_bytes().endswith(b"\n")
        frames = [record["frame"] for record in read_jsonl(copy)]
    else:
        rows = read_csv(copy)
        frames = sorted({int(row["frame"]) for row in rows})
        last = [row for row in rows if int(row["frame"]) == frames[-1]]
        assert len(last) == max(1, int(last[0]["faces"]))
    assert len(frames) >= 9 and frames == list(range(len(frames)))


@pytest.mark.parametrize("name", ["v.mkv", "v.mp4"])
def test_a_recording_plays_as_far_as_it_goes_on_a_disk_that_stays_full(
    start: Start, quick: list[str], clip: Path, disk: Disk, tmp_path: Path, name: str
) -> None:
    """The results, on another disk, hold what was written until then."""
    video, results = disk.path / name, tmp_path / "r.jsonl"
    run = paced(start, quick, clip, disk, "--record", video, "--results", results)
    run.until_records(results, 60)
    disk.fill()
    done = run.end()
    assert done.status == 1 and nobody_died(done.stderr)
    assert done.errors == [f"error: recording {video}: cannot be written any more: No space left on device"]
    played = 0
    with av.open(str(disk.seen(video))) as container:
        for packet in container.demux(video=0):
            try:
                played += len(packet.decode())
            except av.InvalidDataError:
                break
    written = read_jsonl(results)
    assert 40 <= played <= len(written) + 1
    assert [record["frame"] for record in written] == list(range(len(written)))


def test_both_on_one_full_disk_are_told_in_one_line(
    start: Start, quick: list[str], clip: Path, disk: Disk
) -> None:
    results, video = disk.path / "r.jsonl", disk.path / "v.mkv"
    run = paced(start, quick, clip, disk, "--record", video, "--results", results)
    run.until_records(disk.seen(results), 10)
    disk.fill()
    done = run.end()
    assert done.status == 1 and nobody_died(done.stderr)
    assert len(done.errors) == 1 and "cannot be written any more: No space left on device" in done.errors[0]
    assert disk.seen(results).read_bytes().endswith(b"\n")


def test_a_log_on_a_full_disk_does_not_hold_up_the_run(
    start: Start, quick: list[str], clip: Path, disk: Disk, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The status says that something is missing; the results are whole."""
    log, results = disk.path / "run.log", tmp_path / "r.jsonl"
    options = ["--set", f"log.file={log}", "--set", "log.status_interval_s=0.3"]
    pace = ["--set", "capture.pace_fps=8"]
    run = start(*quick, *pace, *options, "--source", clip, "--results", results, inside=disk.inside)
    run.until_records(results, 5)
    disk.fill(log)
    run.line(f"error: log.file {log}: cannot be written: No space left on device; the run goes on")
    disk.make_room()
    run.line(rf"log\.file {log} is written again, \d+ lines missing")
    done = run.end()
    assert done.status == 1 and len(done.errors) == 1 and nobody_died(done.stderr)
    same_but_for_time(read_jsonl(results), undisturbed)


def test_results_on_a_disk_that_is_full_already(
    start: Start, quick: list[str], clip: Path, disk: Disk
) -> None:
    """The file can be made, its first record can't be written."""
    disk.fill()
    results = disk.path / "r.jsonl"
    done = start(*quick, "--source", clip, "--results", results, inside=disk.inside).end()
    assert done.status == 1 and nobody_died(done.stderr)
    assert done.errors == [f"error: results {results}: cannot be written any more: No space left on device"]
    assert disk.seen(results).read_bytes() == b""


def test_shared_memory_that_is_full_does_not_matter(
    start: Start, quick: list[str], clip: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    with small_disk(Path("/dev/shm"), "size=4k") as shm:
        shm.fill()
        done = start(*quick, "--source", clip, "--results", results, inside=shm.inside).end()
    assert done.status == 0 and done.errors == []
    same_but_for_time(read_jsonl(results), undisturbed)


@pytest.mark.parametrize(
    ("options", "said"),
    [("size=64k,nr_inodes=2", "no directory for the run's sockets"), ("size=8k", "display.json")],
)
def test_a_run_without_room_for_its_directory_is_refused(
    start: Start, quick: list[str], disk: Disk, tmp_path: Path, options: str, said: str
) -> None:
    """What an earlier run has written is still there."""
    runtime, results = tmp_path / "runtime", tmp_path / "r.jsonl"
    runtime.mkdir()
    results.write_text("of an earlier run")
    with small_disk(runtime, options) as full:
        full.fill()
        run = start(
            *quick, "--source", "demo", "--results", results, inside=full.inside, XDG_RUNTIME_DIR=str(runtime)
        )
        done = run.end()
    assert done.status == 2
    assert len(done.errors) == 1 and said in done.errors[0], done.stderr
    assert "No space left on device" in done.errors[0] and "TMPDIR" in done.errors[0]
    assert results.read_text() == "of an earlier run"


@pytest.mark.parametrize(("name", "status"), [("stdout", 1), ("stderr", 0)])
def test_standard_output_on_a_full_disk(
    quick: list[str], environment: dict[str, str], clip: Path, tmp_path: Path, name: str, status: int
) -> None:
    """Without its summary a run is not what was asked for; what it says on the way it can do without."""
    results = tmp_path / "r.jsonl"
    command = [sys.executable, "run.py", *quick, "--source", str(clip), "--results", str(results)]
    with Path("/dev/full").open("w") as full, (tmp_path / "said").open("w+") as said:
        streams = {"stdout": said, "stderr": said, name: full}
        done = subprocess.run(command, cwd=PROJECT, env=environment, timeout=LIMIT_S, check=False, **streams)
        said.seek(0)
        lines = said.read().splitlines()
    assert done.returncode == status, lines
    assert len(read_jsonl(results)) == CLIP_FRAMES
    if name == "stdout":
        errors = [line for line in lines if "rror" in line or "Traceback" in line or "gnored" in line]
        assert errors == ["error: standard output: cannot be written: No space left on device"]
    else:
        assert lines[0] == f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}"
