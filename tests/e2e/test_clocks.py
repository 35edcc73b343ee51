"""Three machines, each with a clock of its own, and a slow line: frames travel as JPEG, latency is right."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.wire.keys import make_keys
from stages.stage import ROLES
from tests.support import hosts
from tests.support.hosts import Host
from tests.support.runs import CLIP_FRAMES, CLIP_SIZE, Start, balance, read_jsonl, video_facts

AHEAD_S = {"capture-1": 1000, "display": 400}
RAW_BYTES = CLIP_FRAMES * CLIP_SIZE[0] * CLIP_SIZE[1] * 3


@pytest.fixture
def machines() -> Iterator[list[Host]]:
    reason = hosts.why_not(clocks=True)
    if reason:
        pytest.skip(reason)
    with hosts.made(3) as (broker, capture, display):
        ahead = AHEAD_S.values()
        yield [broker, *(h._replace(ahead_s=s) for h, s in zip((capture, display), ahead, strict=True))]


def test_clocks_apart(
    start: Start, quick: list[str], clip: Path, machines: list[Host], tmp_path: Path
) -> None:
    here, filmed, shown = machines
    filmed.narrow("2mbit")  # on which a raw frame takes more than a second
    keys, results, video = tmp_path / "keys", tmp_path / "r.jsonl", tmp_path / "v.mkv"
    make_keys(keys, ROLES)
    common = [*quick, "--set", f"security.keys={keys}", "--broker", f"tcp://{here.address}:5555"]
    workers = start(*common, "--only", "broker,detect,classify", inside=here.inside)
    workers.line("results are published at ")
    outputs = "--results", results, "--record", video
    capture = start(*common, "--only", "capture", "--source", clip, inside=filmed.inside)
    display = start(*common, "--only", "display", *outputs, inside=shown.inside)
    for run in (capture, display):
        done = run.end()
        assert done.status == 0, done.stderr
        assert sum("the broker's clock is -" in line for line in done.stderr) == 1
    records = read_jsonl(results)
    assert [record["frame"] for record in records] == list(range(CLIP_FRAMES))
    assert all(record["status"] == "ok" for record in records)
    assert all(0 < record["latency_ms"] < 100_000 for record in records), "a clock was not reckoned with"
    assert video_facts(video) == (CLIP_FRAMES, *CLIP_SIZE)
    assert here.received() < RAW_BYTES / 4

    done = workers.end()
    assert done.status == 0, done.stderr
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    line = done.stdout.splitlines()[-1]
    assert line.startswith("latency is on the broker's clock: ")
    stated = re.findall(r"(capture-1|display)@\S+ ([+-][\d.]+) s ± ([\d.]+) ms", line)
    assert {name for name, _, _ in stated} == set(AHEAD_S)
    for name, offset_s, error_ms in stated:
        assert abs(float(offset_s) + AHEAD_S[name]) <= float(error_ms) / 1000 + 0.001
