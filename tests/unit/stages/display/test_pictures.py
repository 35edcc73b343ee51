"""Annotated pictures in a folder: names, suffixes, several sources, and names that would lead elsewhere."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.common.errors import UserError
from stages.display.output_file import OutputFailed
from stages.display.record import Record
from stages.display.sinks.pictures import Pictures
from stages.display.sinks.sink import Outcome
from tests.support.deliveries import opening
from tests.support.deliveries import outcome as delivered

IMAGE = np.full((24, 32, 3), (200, 100, 50), np.uint8)


def outcome(file: str = "", frame: int = 0, source: str = "pics", *, pixels: bool = True) -> Outcome:
    record = Record(source=source, frame=frame, time_s=0.0, status="ok", latency_ms=1.0, file=file, faces=[])
    return Outcome(delivered().delivery, record, b"", IMAGE if pixels else None)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a.jpg", "a.jpg"),
        ("a.PNG", "a.PNG"),
        ("a.jfif", "a.jfif"),
        ("a.tif", "a.tif"),
        ("a.gif", "a.gif.png"),
        ("happy/1.png", "happy/1.png"),
        ("", "000007.jpg"),
        ("../../a.png", "000007.jpg"),
        ("..\\a.png", "000007.jpg"),
        ("/etc/a.png", "000007.jpg"),
        ("C:\\a.png", "000007.jpg"),
    ],
)
def test_names(tmp_path: Path, name: str, written: str) -> None:
    sink = Pictures(opening(["pics"], record=str(tmp_path / "drawn")))
    sink.write(outcome(name, 7))
    sink.close()
    assert names(tmp_path) == [f"drawn/{written}"]
    image = cv2.imread(str(tmp_path / "drawn" / written))
    assert image is not None and np.abs(image.astype(int) - IMAGE).max() < 8


def test_a_frame_without_pixels_writes_nothing_and_an_unused_folder_goes(tmp_path: Path) -> None:
    sink = Pictures(opening(["pics"], record=str(tmp_path / "drawn")))
    sink.write(outcome("a.jpg", pixels=False))
    sink.close()
    assert names(tmp_path) == [] and not (tmp_path / "drawn").exists()


def test_several_sources_have_folders(tmp_path: Path) -> None:
    sink = Pictures(opening(["pics", "rtsp://host/live"], record=str(tmp_path)))
    sink.write(outcome("a.jpg"))
    sink.write(outcome("", 3, "rtsp://host/live"))
    assert names(tmp_path) == ["1-pics/a.jpg", "2-rtsp_host_live/000003.jpg"]


def test_what_was_there_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"older" * 10_000)
    sink = Pictures(opening(["pics"], record=str(tmp_path)))
    sink.write(outcome("a.jpg"))
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == IMAGE.shape
    assert (tmp_path / "b.jpg").read_bytes() == b"older" * 10_000


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for text in (tmp_path / "none" / "drawn", tmp_path / "file"):
        with pytest.raises(UserError, match=r"pictures .*: cannot be written: .*; name a"):
            Pictures(opening(["pics"], record=str(text)))


@pytest.mark.skipif(os.name == "nt", reason="Windows holds open files")
def test_a_folder_that_is_removed_is_made_again_or_told(tmp_path: Path) -> None:
    sink = Pictures(opening(["pics"], record=str(tmp_path / "drawn")))
    (tmp_path / "drawn").rmdir()
    (tmp_path / "drawn").write_text("a file")
    with pytest.raises(OutputFailed, match="cannot be written any more"):
        sink.write(outcome("a.jpg"))
