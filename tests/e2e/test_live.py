"""A live source: an MJPEG stream that the test serves."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mjpeg import MjpegCamera
from tests.support.runs import Start, read_jsonl, video_facts


@pytest.fixture
def stream() -> Iterator[str]:
    with MjpegCamera() as camera:
        yield camera.url


@pytest.mark.long
def test_a_stream(start: Start, quick: list[str], stream: str, tmp_path: Path) -> None:
    """Every frame of it has an outcome, dropped ones too; nothing tells its password."""
    results, video = tmp_path / "r.jsonl", tmp_path / "v.mkv"
    run = start(*quick, "--source", stream, "--results", results, "--record", video)
    run.until_records(results, 60)
    run.signal(signal.SIGINT)
    done = run.end()
    assert done.status == 130
    records = read_jsonl(results)
    assert [record["frame"] for record in records] == list(range(len(records)))
    first = done.stdout.splitlines()[0]
    found = re.search(r"captured (\d+) = ok (\d+) \+ dropped (\d+).* \+ failed (\d+)$", first)
    assert found
    captured, ok, dropped, failed = map(int, found.groups())
    assert captured == ok + dropped + failed == len(records)
    assert ok == sum(record["status"] == "ok" for record in records) > 0
    assert video_facts(video) == (ok, 480, 270)
    said = "\n".join([*done.stderr, done.stdout, results.read_text()])
    assert "secret" not in said
