"""The comparison with `fer`, which is not installed here: a module of that name stands in for it."""

import sys
from pathlib import Path

import av
import numpy as np
import pytest

from bench.against import ClipRun
from bench.job import LoopRun
from pipeline.common.errors import UserError
from tools.compare_fer import describe, row, run_fer

STAND_IN = """
class FER:
    def detect_emotions(self, frame, face_rectangles=None):
        assert frame.shape == (48, 64, 3)
        return [{"box": (1, 2, 3, 4), "emotions": {"happy": 1.0}}]
"""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_the_clip_is_played_until_there_are_enough_frames(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "packages" / "fer"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "fer.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    run = run_fer(Path(sys.executable), str(clip), 7, tmp_path)
    assert (run.frames, run.faces) == (7, 7)
    assert run.seconds > 0
    assert len((tmp_path / "fer.jsonl").read_text().splitlines()) == 7


def test_a_python_without_fer_is_one_line(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="fer ended with status 1: ModuleNotFoundError: No module named 'fer'"
    ):
        run_fer(Path(sys.executable), str(clip), 7, tmp_path)
    with pytest.raises(UserError, match=r"can't be run: .*see tools/fer/requirements\.txt"):
        run_fer(tmp_path / "absent", str(clip), 7, tmp_path)


def test_the_ratio_is_that_of_the_medians() -> None:
    ours = [ClipRun(fps, 200, 100, [20.0]) for fps in (60.0, 80.0, 100.0)]
    theirs = [LoopRun(100, 50, 100 / fps) for fps in (20.0, 10.0, 50.0)]
    figures = describe("clip.mp4, 64×48", ours, theirs)
    assert row(figures) == ["clip.mp4, 64×48", 2.0, 80.0, 0.5, 20.0, 4.0]
