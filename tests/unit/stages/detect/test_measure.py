"""The measurement: what is counted, and what it says of unusable files."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stages.faces import Face
from tools.measure_detector import Layout, compare, main, measure

LAYOUT = Layout(tile=40, gap=20, rows=1, cols=2)


@pytest.fixture(autouse=True)
def _threads() -> object:
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


class Laid:
    """A detector that finds what it is given."""

    fingerprint = "laid"

    def __init__(self, *boxes: tuple[float, float, float, float]) -> None:
        self.faces = [Face(box, 0.9) for box in boxes]

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        return self.faces

    def square(self, face: Face) -> tuple[float, float, float]:
        return face.box_px[:3]


def figures(*boxes: tuple[float, float, float, float]) -> list[str]:
    return list(measure(Laid(*boxes), [np.zeros((80, 140, 3), np.uint8)], LAYOUT).lines())


def test_boxes_that_are_the_tiles() -> None:
    lines = figures((20, 20, 40, 40), (80, 20, 40, 40))
    assert lines[1] == "recall 1.000 of 2 tiles, 0 false boxes"
    assert lines[2].endswith("1.000 of a tile wide, 1.000 high, centre +0.000 to the right, +0.000 low")


def test_one_that_is_low_narrow_and_high() -> None:
    lines = figures((22, 22, 32, 44))
    assert lines[1] == "recall 0.500 of 2 tiles, 0 false boxes"
    assert lines[2].endswith("0.800 of a tile wide, 1.100 high, centre -0.050 to the right, +0.100 low")


def test_a_second_box_and_one_outside_are_false() -> None:
    assert figures((20, 20, 40, 40), (24, 24, 30, 30), (-60, 20, 40, 40), (20, 75, 40, 40))[1] == (
        "recall 0.500 of 2 tiles, 3 false boxes"
    )


def test_nothing_found() -> None:
    assert figures()[1:] == ["recall 0.000 of 2 tiles, 0 false boxes"]


@pytest.mark.parametrize("missing", ["clip", "labels"])
def test_unusable_files(missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text"
    text.write_text("no video, no labels")
    given = [str(text)] if missing == "clip" else [str(text), str(tmp_path / "gone.json")]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([(0, 0, 10, 10), (50, 0, 10, 10)], (2, 2, 0)),
        ([(2, 0, 10, 10), (56, 0, 10, 10)], (2, 1, 1)),  # 0.67 and 0.25 of the two boxes are common
        ([(0, 20, 10, 10), (20, 0, 10, 10)], (2, 0, 2)),
        ([], (2, 0, 0)),
    ],
)
def test_agreement(found: list[tuple[float, float, float, float]], expected: tuple[int, int, int]) -> None:
    other = Laid((0, 0, 10, 10), (50, 0, 10, 10))
    assert compare(Laid(*found), other, [np.zeros((80, 140, 3), np.uint8)]) == expected


def test_the_command(shared: Path, yunet_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, labels = shared / "video" / "mosaic_public.avi", shared / "video" / "mosaic_public.json"
    words = [str(clip), str(labels), "--model", str(yunet_path), "--frames", "2"]
    assert main([*words, "--against", str(yunet_path)]) == 0
    out = capsys.readouterr().out
    assert out.count("recall") == 3
    assert out.index("haar:") < out.index("yunet:")
    last = out.splitlines()[-1].split()
    assert last[0] == last[2] != "0" and last[-2] == "0", "the same file finds the same faces"
