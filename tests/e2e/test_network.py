"""Frames that travel as JPEG, whatever the link."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import CLIP_FRAMES, CLIP_SIZE, Start, balance, read_jsonl, video_facts

JPEG = ["--set", "network.encoding=jpeg"]


@pytest.mark.long
def test_frames_as_jpeg(
    start: Start, quick: list[str], clip: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The same faces are found, and what is drawn on is whole."""
    results, video = tmp_path / "r.jsonl", tmp_path / "v.mkv"
    run = start(*quick, *JPEG, "--source", clip, "--results", results, "--record", video)
    done = run.end()
    assert done.status == 0, done.stderr
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    assert "clock" not in done.stdout, "all on one machine"
    assert video_facts(video) == (CLIP_FRAMES, *CLIP_SIZE)
    records = read_jsonl(results)
    for record, raw in zip(records, undisturbed, strict=True):
        assert (record["frame"], record["status"]) == (raw["frame"], "ok")
        assert 0 < record["latency_ms"] < 60_000
    found, expected = (sum(len(r["faces"]) for r in each) for each in (records, undisturbed))
    assert found == pytest.approx(expected, rel=0.1)
