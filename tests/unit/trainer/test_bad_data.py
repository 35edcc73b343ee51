"""Bad data is reported before training starts: one line that names the file, status 2, no traceback."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.common.labels import EMOTIONS
from tests.support import fer_faces as made
from trainer.__main__ import main

GOOD = " ".join(["9"] * 48 * 48)


def a_folder(root: Path) -> Path:
    return made.write_folder(root / "fer", made.rows(training=2, public=1))


def cut_off(root: Path) -> Path:
    folder = a_folder(root)
    whole = made.picture(made.rows()[0].face)
    made.write_file(folder / "train/sad/Training_00004.png", whole[: len(whole) // 2])
    return folder


def flipped_bit(root: Path) -> Path:
    folder = a_folder(root)
    content = bytearray(made.picture(made.rows()[0].face))
    content[len(content) // 2] ^= 4
    made.write_file(folder / "train/sad/Training_00004.png", bytes(content))
    return folder


def text_as_picture(root: Path) -> Path:
    folder = a_folder(root)
    made.write_file(folder / "train/fear/Training_00002.png", b"not a picture")
    return folder


def empty_picture(root: Path) -> Path:
    folder = a_folder(root)
    made.write_file(folder / "test/fear/PublicTest_00016.png", b"")
    return folder


def other_size(root: Path) -> Path:
    folder = a_folder(root)
    made.write_file(folder / "train/happy/Training_00003.png", made.picture(np.zeros((64, 50), np.uint8)))
    return folder


def unknown_label(root: Path) -> Path:
    folder = a_folder(root)
    (folder / "train/sad").rename(folder / "train/contempt")
    return folder


def one_class(root: Path) -> Path:
    folder = a_folder(root)
    for directory in folder.glob("train/[!h]*"):
        shutil.rmtree(directory)
    return folder


def unknown_part(root: Path) -> Path:
    folder = a_folder(root)
    (folder / "test").rename(folder / "held_out")
    return folder


def unknown_parts(root: Path) -> Path:
    folder = unknown_part(root)
    (folder / "train").rename(folder / "learn")
    return folder


def numbers_as_folders(root: Path) -> Path:
    folder = a_folder(root)
    for number, emotion in enumerate(EMOTIONS):
        (folder / "train" / emotion).rename(folder / "train" / str(number))
    return folder


def stray_file(root: Path) -> Path:
    folder = a_folder(root)
    made.write_file(folder / "train/notes.txt", b"x")
    return folder


def nothing_in_it(root: Path) -> Path:
    (root / "fer").mkdir()
    return root / "fer"


def too_few_to_split(root: Path) -> Path:
    return made.write_folder(root / "fer", made.rows(training=2, public=0))


def text_as_zip(root: Path) -> Path:
    return made.write_file(root / "fer2013.zip", b"not a zip")


def damaged_zip(root: Path) -> Path:
    path = made.write_zip(root / "fer2013.zip", made.rows())
    content = bytearray(path.read_bytes())
    content[300] ^= 255
    return made.write_file(path, bytes(content))


def zip_with_unknown_label(root: Path) -> Path:
    rows = [made.Row(row.number, row.usage, "hapy", row.face) for row in made.rows()]
    return made.write_zip(root / "fer2013.zip", rows)


def another_file(root: Path) -> Path:
    return made.write_file(root / "faces.tar", b"x")


def a_csv(*lines: str, header: str = "emotion,pixels,Usage") -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        return made.write_file(root / "fer2013.csv", "\n".join([header, *lines, ""]).encode())

    return write


def packed_text(name: str) -> Callable[[Path], Path]:
    return lambda root: made.write_file(root / name, b"emotion,pixels,Usage\n")


def cut_off_gz(root: Path) -> Path:
    path = made.write_csv(root / "fer2013.csv.gz", made.rows())
    return made.write_file(path, path.read_bytes()[:5000])


CASES: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "missing": (lambda root: root / "nowhere", ("nowhere", "no such file")),
    "cut off": (cut_off, ("train/sad/Training_00004.png", "damaged")),
    "flipped bit": (flipped_bit, ("train/sad/Training_00004.png", "damaged")),
    "text as picture": (text_as_picture, ("train/fear/Training_00002.png", "damaged")),
    "empty picture": (empty_picture, ("test/fear/PublicTest_00016.png", "damaged")),
    "other size": (other_size, ("train/happy/Training_00003.png", "48x48", "50x64", "--resize")),
    "unknown label": (unknown_label, ("train/contempt", "expected one of angry", "'contempt'")),
    "one class": (one_class, ("train:", "two emotions at least", "disgust 0, fear 0, happy 2")),
    "unknown part": (unknown_part, ("held_out/", "train, validation (or valid, val) and test", "'held_out'")),
    "unknown parts": (unknown_parts, ("train, validation (or valid, val) and test", "held_out", "learn")),
    "numbers": (numbers_as_folders, ("train/", "found the number", "--labels angry")),
    "stray file": (stray_file, ("train/notes.txt", "take it out")),
    "empty folder": (nothing_in_it, ("found no pictures",)),
    "too few to split": (too_few_to_split, ("too few", "disgust 2")),
    "text as zip": (text_as_zip, ("fer2013.zip", "expected a folder, a whole zip")),
    "damaged zip": (damaged_zip, ("train/angry/Training_00000.png",)),
    "unknown label in zip": (zip_with_unknown_label, ("train/hapy", "is it happy?")),
    "another kind of file": (another_file, ("faces.tar", "expected a folder, a whole zip, .csv")),
    "missing column": (a_csv("9,Test", header="pixels,Usage"), ("line 1", "add emotion")),
    "empty csv": (lambda root: made.write_file(root / "a.csv", b""), ("line 1", "found nothing")),
    "no rows": (a_csv(), ("found no pictures",)),
    "emotion 7": (
        a_csv(f"3,{GOOD},Training", f"7,{GOOD},Training"),
        ("line 3", "0 to 6, found 7", "--labels"),
    ),
    "no emotion": (a_csv(f",{GOOD},Training"), ("line 2", "expected one of angry", "found ''")),
    "unknown usage": (a_csv(f"3,{GOOD},Exam"), ("line 2", "Usage", "'Exam'")),
    "short row": (a_csv("3"), ("line 2",)),
    "another separator": (a_csv(f"3:{GOOD}", header="emotion:pixels"), ("line 1", "found emotion:pixels")),
    "too few pixels": (a_csv("3,1 2 3,Training"), ("line 2", "2304", "found 3")),
    "pixel of 256": (a_csv(f"3,256{GOOD[1:]},Training"), ("line 2", "0 to 255")),
    "pixel of letters": (a_csv(f"3,x{GOOD[1:]},Training"), ("line 2", "0 to 255")),
    "not utf-8": (lambda root: made.write_file(root / "a.csv", b"\xff\xfe\x00"), ("a.csv", "damaged")),
    "text as gz": (packed_text("fer2013.csv.gz"), ("fer2013.csv.gz", "damaged")),
    "text as xz": (packed_text("fer2013.csv.xz"), ("fer2013.csv.xz", "damaged")),
    "cut-off gz": (cut_off_gz, ("fer2013.csv.gz", "damaged")),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_data_is_one_line(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make, expected = CASES[case]
    out = tmp_path / "out"
    assert main(["fit", "--data", str(make(tmp_path)), "--out", str(out), "--epochs", "1"]) == 2
    text = capfd.readouterr()
    assert text.err.startswith("error: ")
    assert text.err.count("\n") == 1
    for words in expected:
        assert words in text.err
    assert not out.exists(), "the data is checked before anything is written"


def test_picture_of_one_grey_is_accepted(tmp_path: Path) -> None:
    from trainer.dataset import load

    folder = a_folder(tmp_path)
    made.write_file(folder / "train/sad/Training_00004.png", made.picture(np.zeros((48, 48), np.uint8)))
    assert len(load(folder)["train"]) == 14
