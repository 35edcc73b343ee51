"""`check --cameras`: each camera with what it gives, and asked-for values beside those that were got."""

import subprocess
import sys
from typing import Any

import pytest

from pipeline.cli import check
from pipeline.cli.check import camera_line, camera_lines
from pipeline.config.stage import CheckLine
from stages.capture.spec import Camera, CameraMode, CaptureSettings

VGA, HD = CameraMode(640, 480, 30.0), CameraMode(1280, 720, 29.97)


def test_a_camera_that_gives_what_is_asked() -> None:
    camera = Camera(0, HD, [VGA, HD])
    line = CheckLine("ok", "camera 0", "1280×720 at 29.97/s; it has 640×480 at 30/s, 1280×720 at 29.97/s")
    assert camera_line(camera, CaptureSettings()) == line
    asked = CaptureSettings(camera_width=1280, camera_height=720, camera_fps=30)
    assert camera_line(camera, asked) == line


def test_a_camera_that_gives_something_else() -> None:
    asked = CaptureSettings(camera_width=1920, camera_height=480, camera_fps=60)
    line = camera_line(Camera(2, VGA, [VGA]), asked)
    assert line.state == "note"
    assert line.detail == (
        "capture.camera_width=1920, capture.camera_fps=60 asked for, "
        "640×480 at 30/s got; it has 640×480 at 30/s"
    )


def test_a_camera_that_gives_nothing() -> None:
    assert "gives no picture" in camera_line(Camera(1), CaptureSettings()).detail


def test_where_there_is_no_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 0, b"", b"")
    monkeypatch.setattr(check.subprocess, "run", lambda *words, **options: done)
    assert camera_lines(CaptureSettings()) == [CheckLine("note", "camera", "none found")]


def test_a_driver_that_hangs_hides_no_other_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **options: Any) -> None:
        assert command[-4:] == ["list", "640", "0", "0"]
        raise subprocess.TimeoutExpired(command, 60.0, output=b'{"number": 3, "got": null}\n')

    monkeypatch.setattr(check.subprocess, "run", hang)
    lines = camera_lines(CaptureSettings(camera_width=640))
    assert [line.part for line in lines] == ["camera 3", "camera"]
    assert "has not answered" in lines[1].detail


class _Capture:
    """A camera with two sizes, as OpenCV has it."""

    def __init__(self, number: int) -> None:
        self._number, self._width = number, 640

    def set(self, prop: int, value: float) -> None:
        import cv2

        if prop == cv2.CAP_PROP_FRAME_WIDTH:
            self._width = 1280 if value >= 1280 else 640

    def isOpened(self) -> bool:  # noqa: N802
        return self._number == 0

    def read(self) -> tuple[bool, Any]:
        import numpy as np

        return True, np.zeros((480 if self._width == 640 else 720, self._width, 3), np.uint8)

    def get(self, prop: int) -> float:
        return 30.0

    def release(self) -> None:
        pass


def test_the_probe_lists_sizes_and_rates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import msgspec

    from stages.capture.sources import camera

    monkeypatch.setattr("cv2.VideoCapture", _Capture)
    monkeypatch.setattr(camera, "candidates", lambda: [0, 1])
    assert camera.main(["list", "1280", "0", "0"]) == 0
    found = [msgspec.json.decode(line, type=Camera) for line in capsys.readouterr().out.splitlines()]
    modes = [CameraMode(640, 480, 30.0), CameraMode(1280, 720, 30.0)]
    expected = [Camera(0, modes[1], modes)] + [Camera(1)] * sys.platform.startswith("linux")
    assert found == expected
    assert camera.main([]) == 0
    assert capsys.readouterr().out == "0\n"
