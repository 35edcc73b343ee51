"""Disks that are full, at the start and on the way; real ones."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from pipeline.common.files import PROJECT
from tests.support.runs import CLIP_FRAMES, LIMIT_S, Start, balance, read_jsonl, same_but_for_time
from tests.support.small_disk import Disk, small_disk

PACE = ["--set", "capture.pace_fps=20"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    with small_disk(path, "size=2m") as mounted:
        yield mounted


def nobody_died(stderr: list[str]) -> bool:
    print("\n".join(stderr))
    return not any("died" in line or "hangs" in line or "timed out" in line for line in stderr)


def test_room_that_comes_back_is_used(
    start: Start, quick: list[str], clip: Path, disk: Disk, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The results wait for it and are complete; the log does not wait, and says what is missing."""
    results, log = disk.path / "r.jsonl", disk.path / "run.log"
    options = ["--set", f"log.file={log}", "--set", "log.status_interval_s=0.3"]
    run = start(*quick, *PACE, *options, "--source", clip, "--results", results, inside=disk.inside)
    run.until_records(disk.seen(results), 10)
    disk.fill(log)
    run.line(f"display: results {results}: No space left on device; waiting up to 10 s for room")
    run.line(f"error: log.file {log}: cannot be written: No space left on device; the run goes on")
    disk.make_room()
    run.line(f"display: results {results}: is written again")
    run.line(rf"log\.file {log} is written again, \d+ lines missing")
    run.until_records(disk.seen(results), CLIP_FRAMES)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(disk.seen(results).read_bytes())
    done = run.end()
    assert done.status == 1 and len(done.errors) == 1 and nobody_died(done.stderr)  # a log with a gap
    same_but_for_time(read_jsonl(copy), undisturbed)
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout


def test_outputs_end_whole_on_a_disk_that_stays_full(
    start: Start, quick: list[str], clip: Path, disk: Disk, tmp_path: Path
) -> None:
    """One line says so, status 1; the records are whole and the recording plays."""
    results, video = disk.path / "r.jsonl", disk.path / "v.mkv"
    outputs = ["--record", video, "--results", results]
    repeat = ["--set", "capture.repeat=10"]
    run = start(*quick, *PACE, *repeat, "--source", clip, *outputs, inside=disk.inside)
    run.until_records(disk.seen(results), 60)
    disk.fill()
    done = run.end()
    assert done.status == 1 and nobody_died(done.stderr)
    assert len(done.errors) == 1 and "cannot be written any more: No space left on device" in done.errors[0]
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(disk.seen(results).read_bytes())
    assert copy.read_bytes().endswith(b"\n")
    records = read_jsonl(copy)
    assert [record["frame"] for record in records] == list(range(len(records)))
    played = 0
    with av.open(str(disk.seen(video))) as container:
        for packet in container.demux(video=0):
            try:
                played += len(packet.decode())
            except av.InvalidDataError:
                break
    assert 40 <= played <= len(records) + 1


@pytest.mark.parametrize(("name", "status"), [("stdout", 1), ("stderr", 0)])
def test_standard_output_on_a_full_disk(
    quick: list[str], environment: dict[str, str], tmp_path: Path, name: str, status: int
) -> None:
    """A run whose summary is lost ends with 1; without its log it ends as it would have."""
    results = tmp_path / "r.jsonl"
    words = [*quick, "--source", "demo:1", "--set", "capture.max_frames=3", "--results", str(results)]
    command = [sys.executable, "run.py", *words, "--log-json"]
    with Path("/dev/full").open("w") as full, (tmp_path / "said").open("w+") as said:
        streams = {"stdout": said, "stderr": said, name: full}
        done = subprocess.run(command, cwd=PROJECT, env=environment, timeout=LIMIT_S, check=False, **streams)
        said.seek(0)
        lines = said.read().splitlines()
    assert done.returncode == status, lines
    assert len(read_jsonl(results)) == 3
    if name == "stderr":
        assert lines[0] == f"demo-1: {balance(3, 3)}"
        return
    log = [json.loads(line) for line in lines]
    assert {"run", "display"} <= {line["process"] for line in log} and all(line["time"] for line in log)
    assert any("frames without a face" in line["message"] for line in log)
    errors = [line["message"] for line in log if line["level"] != "info"]
    assert errors == ["standard output: cannot be written: No space left on device"]
