"""Cameras, with a stand-in for OpenCV's capture."""

from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.common.errors import UserError
from stages.capture.reader import SourceFailed, to_bgr
from stages.capture.sources import camera
from tests.support.media import open_source


class FakeCapture:
    """Gives `left` pictures, then fails. Opens only what is in `working`."""

    working: tuple[Any, ...] = ()
    left = 3
    image: Any = np.zeros((6, 8, 3), np.uint8)
    fps = 30.0
    made: "list[FakeCapture]"

    def __init__(self, source: Any, *how: Any) -> None:
        self.source, self.how = source, how
        self.wishes: dict[int, float] = {}
        self.reads = 0
        self.released = False
        self.made.append(self)

    def isOpened(self) -> bool:  # noqa: N802
        return self.source in self.working

    def read(self) -> tuple[bool, Any]:
        self.reads += 1
        return (True, self.image) if self.reads <= self.left else (False, None)

    def set(self, prop: int, value: float) -> bool:
        self.wishes[prop] = value
        return True

    def get(self, prop: int) -> float:
        assert prop == cv2.CAP_PROP_FPS
        return self.fps

    def release(self) -> None:
        self.released = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeCapture]:
    class Fake(FakeCapture):
        made = []  # noqa: RUF012

    monkeypatch.setattr(cv2, "VideoCapture", Fake)
    return Fake


def test_no_camera_is_told_in_one_line(fake: type[FakeCapture]) -> None:
    with pytest.raises(UserError, match="source '3': this camera does not open") as told:
        open_source("3")
    assert "\n" not in str(told.value)
    assert fake.made[0].released


def test_a_camera_without_a_picture(fake: type[FakeCapture]) -> None:
    fake.working, fake.left = (0,), 0
    with pytest.raises(UserError, match="gives no picture"):
        open_source("0")
    assert fake.made[0].released


def test_pictures_and_their_times(fake: type[FakeCapture]) -> None:
    fake.working, fake.left = (0,), 4
    reader = open_source("0")
    assert (reader.info.name, reader.info.kind) == ("camera-0", "live")
    assert (reader.info.width, reader.info.height, reader.info.fps) == (8, 6, 30)
    times = []
    for _ in range(3):
        picture = reader.read()
        assert picture is not None
        assert picture.image is not None
        assert picture.image.shape == (6, 8, 3)
        times.append(picture.time_s)
    assert times == sorted(times)
    with pytest.raises(SourceFailed, match="camera-0: the pictures have stopped"):
        reader.read()
    reader.close()
    assert fake.made[0].released


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 90_000.0])
def test_a_rate_that_makes_no_sense_is_unknown(fake: type[FakeCapture], fps: float) -> None:
    fake.working, fake.fps = (0,), fps
    assert open_source("0").info.fps == 0


def test_settings_are_passed_on(fake: type[FakeCapture]) -> None:
    fake.working = (1,)
    open_source("1", camera_width=1280, camera_height=720, camera_fps=60)
    assert fake.made[0].wishes == {
        cv2.CAP_PROP_BUFFERSIZE: 1,
        cv2.CAP_PROP_FRAME_WIDTH: 1280,
        cv2.CAP_PROP_FRAME_HEIGHT: 720,
        cv2.CAP_PROP_FPS: 60,
    }


def test_a_camera_keeps_its_own_settings_unless_asked(fake: type[FakeCapture]) -> None:
    fake.working = (1,)  # by its number: OpenCV would give a path to FFmpeg, which knows none of these wishes
    open_source("/dev/video1")
    assert fake.made[0].wishes == {cv2.CAP_PROP_BUFFERSIZE: 1}


@pytest.mark.parametrize(
    ("took_s", "what"), [(4.0, "no picture for 4\\.0 s"), (0.1, "the pictures have stopped")]
)
def test_a_stall_is_told_from_a_camera_that_is_gone(
    fake: type[FakeCapture], monkeypatch: pytest.MonkeyPatch, took_s: float, what: str
) -> None:
    fake.working, fake.left = (0,), 2
    reader = open_source("0")
    assert reader.read() is not None
    now_s = iter([100.0, 100.0 + took_s])
    monkeypatch.setattr(camera.time, "monotonic", lambda: next(now_s))
    with pytest.raises(SourceFailed, match=f"camera-0: {what}"):
        reader.read()


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.full((2, 3), 90, np.uint8), id="grey"),
        pytest.param(np.full((2, 3, 1), 90, np.uint8), id="grey, one channel"),
        pytest.param(np.full((2, 3, 3), 90, np.uint8)[:, ::-1], id="not contiguous"),
        pytest.param(np.full((2, 3, 4), 90, np.uint8), id="bgra"),
        pytest.param(np.full((2, 3), 90 * 256, np.uint16), id="16 bits"),
        pytest.param(np.full((2, 3, 3), 90.5 / 255, np.float32), id="floats"),
    ],
)
def test_every_kind_of_pixel_becomes_bgr(image: Any) -> None:
    picture = to_bgr(image)
    assert picture.flags["C_CONTIGUOUS"]
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, np.full((2, 3, 3), 90))


def test_the_probe_prints_the_first_camera_that_works(
    fake: type[FakeCapture], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(camera, "candidates", lambda: [0, 2, 4])
    fake.working = (2, 4)
    assert camera.main([]) == 0
    assert capsys.readouterr().out == "2\n"
    assert [one.released for one in fake.made] == [True, True]


@pytest.mark.parametrize("numbers", [[], [0, 1]])
def test_the_probe_prints_nothing_without_a_camera(
    numbers: list[int],
    fake: type[FakeCapture],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(camera, "candidates", lambda: numbers)
    assert camera.main([]) == 1
    assert capsys.readouterr() == ("", "")


def test_the_probe_as_a_process_says_the_same() -> None:
    import subprocess
    import sys

    if camera.candidates():
        pytest.skip("a camera may be here: the stand-in tests cover the rest")
    ended = subprocess.run(
        [sys.executable, "-m", "stages.capture.sources.camera"], capture_output=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, b"", b"")
