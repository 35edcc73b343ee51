"""Playing a file several times."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stages.capture.reader import Reader, RepeatingReader
from stages.capture.spec import CaptureSettings
from tests.support.media import ListReader, open_source, pictures, play, write_clip


def repeating(reopen: Callable[[], Reader], **settings: Any) -> RepeatingReader:
    return RepeatingReader(reopen(), reopen, CaptureSettings(**settings))


def test_numbers_and_times_grow_over_the_repeats(tmp_path: Path) -> None:
    images = [np.full((48, 64, 3), 20 * n, np.uint8) for n in range(6)]
    path = write_clip(tmp_path / "clip.mp4", images)
    played, error = play(path, repeat=3)
    assert error == ""
    assert [p.time_s for p in played] == pytest.approx([n / 25 for n in range(18)], abs=0.002)
    first, _ = play(path)
    for number, picture in enumerate(played):
        assert np.array_equal(picture.image, first[number % 6].image)  # type: ignore[arg-type]


def test_pictures_are_a_second_apart_over_the_repeats(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 4, 3), np.uint8))
    played, _ = play(tmp_path, repeat=2)
    assert [(p.file, p.time_s) for p in played] == [("a.png", 0), ("b.png", 1), ("a.png", 2), ("b.png", 3)]


def test_nought_is_until_stopped() -> None:
    reader = repeating(lambda: ListReader(pictures(3)), repeat=0)
    played = [reader.read() for _ in range(100)]
    assert None not in played
    assert [p.time_s for p in played if p] == pytest.approx([n / 25 for n in range(100)])


def test_the_demo_repeats() -> None:
    reader = open_source("demo:1", repeat=2)
    count = 0
    while reader.read() is not None:
        count += 1
    assert count == 600


def test_each_pass_is_closed() -> None:
    opened: list[ListReader] = []

    def reopen() -> ListReader:
        opened.append(ListReader(pictures(2)))
        return opened[-1]

    reader = repeating(reopen, repeat=3)
    while reader.read() is not None:
        pass
    reader.close()
    assert [one.closed for one in opened] == [True] * 3


def test_a_source_of_nothing_does_not_repeat_for_ever() -> None:
    assert repeating(lambda: ListReader([]), repeat=0).read() is None


@pytest.mark.parametrize("times", [0, 4])
def test_a_number_of_frames_over_the_repeats(times: int) -> None:
    reader = repeating(lambda: ListReader(pictures(3)), repeat=times, max_frames=7)
    assert [reader.read() is None for _ in range(9)] == [False] * 7 + [True] * 2


@pytest.mark.parametrize(
    ("settings", "announced"),
    [
        ({}, 6),
        ({"start_s": 0.1}, 4),
        ({"start_s": 0.04, "duration_s": 0.08}, 2),
        ({"duration_s": 9}, 6),
        ({"repeat": 3}, 18),
        ({"repeat": 3, "max_frames": 7}, 7),
        ({"repeat": 0}, 0),
        ({"repeat": 0, "max_frames": 7}, 7),
    ],
)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_a_file_announces_how_many_frames_come(
    tmp_path: Path, name: str, settings: dict[str, float], announced: int
) -> None:
    path = write_clip(tmp_path / name, [np.full((48, 64, 3), 20 * n, np.uint8) for n in range(6)])
    assert open_source(path, **settings).info.frames == announced


@pytest.mark.parametrize(("start_s", "announced"), [(0, 2), (1, 1)])
def test_a_folder_announces_its_pictures(tmp_path: Path, start_s: float, announced: int) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    assert open_source(tmp_path, start_s=start_s).info.frames == announced
    assert open_source("demo", start_s=10).info.frames == 50
