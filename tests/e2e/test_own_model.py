"""Runs with emotion models of one's own, which take other faces than 48×48 in grey."""

from pathlib import Path

import pytest

from tests.support.models import save_onnx
from tests.support.runs import CLIP_FRAMES, Start, balance, read_jsonl

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("size", "channels"), [(64, 1), (96, 3)])
def test_faces_are_cut_out_as_the_card_says(
    start: Start, quick: list[str], clip: Path, tmp_path: Path, size: int, channels: int
) -> None:
    shape = {"shape": [size, size, channels], "dtype": "uint8"}
    model = save_onnx(
        tmp_path / "own.onnx", {"fer2013": "surprise"}, size=size, channels=channels, input=shape
    )
    results = tmp_path / "r.jsonl"
    arguments = ["--set", f"classify.model={model}", "--source", clip, "--results", results]
    done = start(*quick, *arguments).end()
    assert done.status == 0, done.stderr
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    faces = [face for record in read_jsonl(results) for face in record["faces"]]
    assert len(faces) >= CLIP_FRAMES
    assert {face["emotion"] for face in faces} == {"surprise"}
