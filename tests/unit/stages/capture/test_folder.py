"""Folders of pictures, and single ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.common.errors import UserError
from stages.capture.sources.images import read_picture
from tests.support.media import corner, noise, open_source, play


def write(path: Path, image: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def test_natural_order_and_names(tmp_path: Path) -> None:
    for number in (10, 9, 1, 100):
        write(tmp_path / f"img{number}.png", np.full((4, 6, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.d").mkdir()
    pictures, error = play(tmp_path)
    assert error == ""
    assert [p.file for p in pictures] == ["img1.png", "img9.png", "img10.png", "img100.png"]
    assert [int(p.image[0, 0, 0]) for p in pictures if p.image is not None] == [1, 9, 10, 100]
    assert [p.time_s for p in pictures] == [0, 1, 2, 3]


def test_odd_names(tmp_path: Path) -> None:
    names = ["img01.png", "img1.png", "img².png", "caf\udce9.png"]
    for name in names:
        (tmp_path / name).write_bytes(cv2.imencode(".png", noise(0, 4, 4))[1].tobytes())
    played = [p.file for p in play(tmp_path)[0]]
    assert sorted(played) == sorted(["img01.png", "img1.png", "img².png", "caf?.png"])
    assert played == [p.file for p in play(tmp_path)[0]]


def test_one_bad_picture_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a.png", noise(0, 8, 6))
    (tmp_path / "b.png").write_text("no picture")
    (tmp_path / "c.png").touch()
    (tmp_path / "d.png").mkdir()
    write(tmp_path / "e.png", noise(1, 8, 6))
    pictures, _ = play(tmp_path)
    assert [p.file for p in pictures] == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert [p.image is None for p in pictures] == [False, True, True, True, False]
    for bad in pictures[1:4]:
        assert bad.reason.startswith("unreadable: ")
        assert "\n" not in bad.reason


def test_the_size_is_that_of_the_first_good_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    write(tmp_path / "b.png", noise(0, 8, 6))
    info = open_source(tmp_path).info
    assert (info.kind, info.width, info.height, info.fps) == ("file", 8, 6, 0)


def test_a_cut_off_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", noise(0, 64, 48))
    path.write_bytes(path.read_bytes()[:60])
    image, reason = read_picture(path)
    assert image is None
    assert reason.startswith("unreadable")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no pictures in it; expected files that end in \.png"):
        open_source(tmp_path)


def test_a_folder_of_bad_pictures_alone(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").write_text("no picture")
    with pytest.raises(UserError, match="none of its 2 pictures can be read"):
        open_source(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".bmp", ".webp"])
def test_a_single_picture(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"other{suffix}", noise(0, 8, 6))
    path = write(tmp_path / f"face{suffix}", np.full((6, 8, 3), (200, 100, 50), np.uint8))
    (picture,), _ = play(path)
    assert picture.file == path.name
    assert picture.image is not None
    assert np.abs(picture.image.astype(int) - (200, 100, 50)).max() < 8


@pytest.mark.parametrize(
    "pixel",
    [
        pytest.param(np.array([[90]], np.uint8), id="grey"),
        pytest.param(np.array([[90 * 257]], np.uint16), id="grey of 16 bits"),
        pytest.param(np.array([[[90, 90, 90]]], np.uint8), id="bgr"),
        pytest.param(np.array([[[90 * 257] * 3]], np.uint16), id="bgr of 16 bits"),
        pytest.param(np.array([[[90, 90, 90, 0]]], np.uint8), id="bgra"),
        pytest.param(np.array([[[90 * 257] * 3 + [65535]]], np.uint16), id="bgra of 16 bits"),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (5, 3)])
def test_every_kind_of_pixel_becomes_bgr(
    tmp_path: Path, pixel: np.ndarray[tuple[int, ...], np.dtype[np.generic]], size: tuple[int, int]
) -> None:
    columns, rows = size
    tiled = np.tile(pixel, (rows, columns) + (1,) * (pixel.ndim - 2))
    image, reason = read_picture(write(tmp_path / "a.png", tiled))
    assert reason == ""
    assert image is not None
    assert image.dtype == np.uint8
    assert image.flags["C_CONTIGUOUS"]
    assert np.array_equal(image, np.full((rows, columns, 3), 90))


def test_a_phone_picture_stands_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90°
    Image.fromarray(corner(64, 48)).save(path, exif=exif)
    image, _ = read_picture(path)
    assert image is not None
    assert image.shape == (64, 48, 3)
    assert image[:10, -10:].mean() > 245
    assert image[:10, :10].mean() < 10


def test_a_picture_beyond_the_limit(tmp_path: Path) -> None:
    image, reason = read_picture(write(tmp_path / "wide.png", np.zeros((1, 16_385, 3), np.uint8)))
    assert image is None
    assert "16384 is the limit" in reason
