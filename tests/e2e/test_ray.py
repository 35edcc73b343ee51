"""A run on a cluster: a head and two machines, and what befalls those."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.files import PROJECT
from tests.support import clusters, hosts
from tests.support.clusters import PORT, Node
from tests.support.hosts import Host
from tests.support.runs import Run, Start, balance, read_jsonl, same_but_for_time

FRAMES = 300
CLIP = ["--set", f"capture.max_frames={FRAMES}", "--set", "capture.repeat=10"]
"""The mosaic has 33 frames."""

CAMERAS = 4

OnRay = Callable[..., Run]


@pytest.fixture
def machines() -> Iterator[list[Host]]:
    reason = clusters.why_not() or hosts.why_not()
    if reason:
        pytest.skip(reason)
    with hosts.made(4) as made:
        yield made


@pytest.fixture
def cluster(machines: list[Host]) -> Iterator[list[Node]]:
    """Three of the machines, the head first."""
    with clusters.made_cluster(machines[:3], cores=6) as nodes:
        yield nodes


@pytest.fixture
def on_ray(start: Start, cluster: list[Node]) -> OnRay:
    head = cluster[0].host
    words = ["--display", "none", "--engine", "ray", "--ray-address", f"{head.address}:{PORT}"]
    return lambda *arguments: start(*words, *arguments, inside=head.inside, **clusters.ENVIRONMENT)


@pytest.fixture
def mosaic(shared: Path) -> Path:
    return shared / "video" / "mosaic_small.avi"


@pytest.fixture
def expected(mosaic: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """The records of a run on this machine."""
    results = tmp_path / "local.jsonl"
    command = [sys.executable, "run.py", "--display", "none", "--source", mosaic, "--results", results]
    words = [*map(str, command), *CLIP]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return read_jsonl(results)


@pytest.fixture
def camera(machines: list[Host]) -> Iterator[subprocess.Popen[str]]:
    """A camera on the fourth machine, 15 frames a second. Its address is the first line that it writes."""
    command = [*machines[3].inside, sys.executable, "-m", "tests.support.mjpeg", machines[3].address, "15"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.kill()


def more(run: Run, results: Path, count: int = 10) -> None:
    run.until_records(results, results.read_bytes().count(b"\n") + count)


def test_a_file_through_all_that_befalls_a_cluster(
    expected: list[dict[str, Any]], on_ray: OnRay, cluster: list[Node], mosaic: Path, tmp_path: Path
) -> None:
    """A worker killed, a machine killed, a cable pulled: each frame once, in order, as on one machine."""
    results = tmp_path / "r.jsonl"
    workers = {"detect.workers": 2, "classify.workers": 2, "ray.max_workers": 2}
    settings = workers | {"network.encoding": "raw", "capture.pace_fps": 6}
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    run = on_ray(*words, *CLIP, "--source", mosaic, "--results", results)
    run.until_records(results, 10)
    first, second = cluster[1:]
    assert first.children() and second.children(), "all of it is on one machine"

    os.kill(first.children()[0], signal.SIGKILL)
    run.line(r"(detect|classify)-\d died \(signal SIGKILL\); it is started again now")
    more(run, results)

    first.kill()
    run.line(r"-\d is lost with its machine; it is started again elsewhere")
    run.until(lambda: len(second.children()) == 4)
    more(run, results)

    first.start()
    second.host.cut()
    run.until(lambda: len(first.children()) == 4)
    more(run, results)
    second.host.join()

    done = run.end()
    assert done.status == 0, done.stderr
    assert done.errors == []
    records = read_jsonl(results)
    assert Counter(record.get("reason", "") for record in records) == {"": FRAMES}
    assert balance(FRAMES, FRAMES) in done.stdout
    same_but_for_time(records, expected)
    assert not first.children()


def test_a_killed_run_leaves_nothing_in_the_cluster(
    on_ray: OnRay, quick: list[str], cluster: list[Node], tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    run = on_ray(*quick, "--set", "capture.repeat=0", "--source", "demo", "--results", results)
    run.until_records(results, 10)
    assert any(node.children() for node in cluster[1:])
    run.process.kill()
    for node in cluster:
        node.wait_until_empty()


def test_four_cameras(
    on_ray: OnRay, quick: list[str], cluster: list[Node], camera: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Detectors are added and taken away; a worker and a machine are killed, and pictures come again."""
    assert camera.stdin is not None and camera.stdout is not None
    source = camera.stdout.readline().strip()
    results = tmp_path / "r.jsonl"
    settings = {"detect.workers": 1, "detect.haar_scale": 1.05, "ray.max_workers": 3, "ray.idle_s": 4}
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    run = on_ray(*quick, *words, *["--source", source] * CAMERAS, "--results", results)
    run.line("detect-2 is added: detect is late")
    run.line("detect-2: runs on ")
    first, second = cluster[1:]

    os.kill(next(pid for node in (first, second) for pid in node.children("detect")), signal.SIGKILL)
    run.line(r"detect-\d died \(signal SIGKILL\); it is started again now")
    first.kill()
    run.line(r"-\d is lost with its machine; it is started again elsewhere")
    more(run, results, 200)

    camera.stdin.write("1\n")
    camera.stdin.flush()
    run.line(r"detect-\d is taken away: detect is idle")
    run.signal(signal.SIGINT)
    done = run.end()
    assert done.status == 130, done.stderr
    assert done.errors == []
    assert not second.children() and not cluster[0].children()
    records = read_jsonl(results)
    found = re.findall(r"captured (\d+) = ok (\d+) \+ dropped (\d+).* \+ failed (\d+)", done.stdout)
    found = found[:CAMERAS]  # the last line is that of all together
    for captured, ok, dropped, failed in ([int(count) for count in counts] for counts in found):
        assert captured == ok + dropped + failed and ok > 0
    assert len(records) == sum(int(counts[0]) for counts in found)
    print("longest without a picture:", longest_gap_s(records), "s")


def longest_gap_s(records: list[dict[str, Any]]) -> float:
    """Seconds between two frames of a source that were handled, at most."""
    gap_s = 0.0
    for source in {record["source"] for record in records}:
        times = [one["time_s"] for one in records if one["source"] == source and one["status"] == "ok"]
        gap_s = max([gap_s, *(after - before for before, after in pairwise(times))])
    return gap_s
