"""Pictures as people bring them: every suffix, orientations, patterns, and what lies beside them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.common.errors import UserError
from pipeline.config.sources import PICTURE_SUFFIXES
from stages.capture import reader
from stages.capture.sources.images import FORMATS, read_picture
from tests.support.media import noise, open_source, play, write_noise


@pytest.fixture(autouse=True)
def _nothing_said_before() -> None:
    reader.say_once.cache_clear()


def save(path: Path, number: int = 0, kind: str | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(noise(number, 16, 12)).save(path, kind)
    return path


def test_the_suffixes_are_those_of_the_formats_that_pillow_decodes() -> None:
    Image.init()
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
    assert set(PICTURE_SUFFIXES) == known
    assert set(FORMATS) <= set(Image.OPEN)


WRITABLE = {
    ".png": "PNG", ".apng": "PNG", ".jpe": "JPEG", ".jfif": "JPEG", ".dib": "DIB", ".webp": "WEBP",
    ".gif": "GIF", ".tif": "TIFF", ".tiff": "TIFF", ".avif": "AVIF", ".jp2": "JPEG2000", ".ppm": "PPM",
    ".tga": "TGA", ".sgi": "SGI", ".pcx": "PCX", ".ico": "ICO",
}  # fmt: skip


@pytest.mark.parametrize(("suffix", "kind"), WRITABLE.items())
def test_every_suffix_is_read_alone_and_in_a_folder(tmp_path: Path, suffix: str, kind: str) -> None:
    path = save(tmp_path / "pics" / f"a{suffix.upper()}", kind=kind)
    (picture,), error = play(path.parent)
    assert (picture.file, picture.reason, error) == (path.name, "", "")
    assert len(play(path)[0]) == 1


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.0, 255.0)])
def test_pictures_of_floats(tmp_path: Path, values: tuple[float, float]) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([values], np.float32)).save(path)
    image, _ = read_picture(path)
    assert image is not None
    assert image[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("orientation", "order"),
    [(1, "abcd"), (2, "badc"), (3, "dcba"), (4, "cdab"), (5, "acbd"), (6, "cadb"), (7, "dbca"), (8, "bdac")],
)
def test_all_eight_orientations(tmp_path: Path, orientation: int, order: str) -> None:
    """The quarters of the stored picture are a, b and, below them, c, d."""
    grey = {"a": 20, "b": 90, "c": 160, "d": 230}
    stored = np.repeat(np.repeat(np.array([[20, 90], [160, 230]], np.uint8), 8, 0), 8, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).convert("RGB").save(tmp_path / "a.jpg", exif=exif, quality=95)
    image, _ = read_picture(tmp_path / "a.jpg")
    assert image is not None
    found = [int(image[row, column, 0]) for row in (3, 12) for column in (3, 12)]
    assert found == pytest.approx([grey[letter] for letter in order], abs=6)


def test_dot_files_are_skipped_and_what_is_left_out_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("IMG_1.jpg", "x.jfif"):
        save(tmp_path / "pics" / name, kind="JPEG")
    folder = tmp_path / "pics"
    (folder / "._IMG_1.jpg").write_bytes(b"\0\5\26\7 of a Mac")
    (folder / ".DS_Store").touch()
    for name in ("a.txt", "b.txt", "IMG_2.HEIC", "README"):
        (folder / name).touch()
    (folder / "older").mkdir()
    with caplog.at_level("INFO"):
        pictures, error = play(folder, repeat=2)
    assert [p.file for p in pictures] == 2 * ["IMG_1.jpg", "x.jfif"]
    assert error == ""
    (record,) = caplog.records
    head, kinds = record.message.rsplit(": ", 1)
    assert head == "pics: pictures taken 2, left out 5"
    assert set(kinds.split(", ")) == {"2 .txt", "1 .heic", "1 without suffix", "1 folders"}


def test_a_folder_of_videos_says_how_to_take_them(tmp_path: Path) -> None:
    write_noise(tmp_path / "a.mp4", frames=2)
    with pytest.raises(UserError, match=r"no pictures in it; found 1 \.mp4; its videos are sources of their"):
        open_source(tmp_path)


# ------------------------------------------------------------------------------------------------- patterns


def test_a_numbered_pattern(tmp_path: Path) -> None:
    for number in (1, 2, 10, 12_345):
        save(tmp_path / f"f_{number:04d}.png", number)
    save(tmp_path / "f_7.png")
    save(tmp_path / "g_0001.png")
    assert [p.file for p in play(tmp_path / "f_%04d.png")[0]] == [
        "f_0001.png", "f_0002.png", "f_0010.png", "f_12345.png",
    ]  # fmt: skip
    assert [p.file for p in play(tmp_path / "f_%d.png")[0]][-2:] == ["f_0010.png", "f_12345.png"]
    assert open_source(tmp_path / "f_%04d.png").info.name == "f_%04d.png"


def test_a_glob_over_folders_keeps_what_differs_in_the_names(tmp_path: Path) -> None:
    for name in ("happy/1.png", "happy/10.png", "happy/2.png", "sad/1.png"):
        save(tmp_path / name)
    (tmp_path / "sad" / "notes.txt").touch()
    pictures, _ = play(f"{tmp_path}/*/*.png")
    assert [p.file for p in pictures] == ["happy/1.png", "happy/2.png", "happy/10.png", "sad/1.png"]


def test_start_and_duration_of_pictures(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / f"{number}.png")
    pictures, _ = play(tmp_path, start_s=2, duration_s=3)
    assert [(p.file, p.time_s) for p in pictures] == [("2.png", 2), ("3.png", 3), ("4.png", 4)]
    with pytest.raises(UserError, match="it ends after 6 pictures, each a second, before --start 6"):
        open_source(tmp_path, start_s=6)


def test_names_in_any_script(tmp_path: Path) -> None:
    names = ["#1.png", "Ricard_S\u00e1nchez.png", "a b%20c.png", "\ud55c\uad6d\uc5b4.png", "\U0001f600.png"]
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    pictures, error = play(tmp_path)
    assert (sorted(p.file for p in pictures), error) == (sorted(names), "")
    assert all(p.image is not None for p in pictures)
