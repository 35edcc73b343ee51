"""Every form of the data, and the part of each picture."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from tests.support import fer_faces as made
from trainer import dataset as data


def write(form: str, where: Path, rows: list[made.Row]) -> Path:
    if form == "folder":
        return made.write_folder(where / "fer2013", rows)
    if form == "zip":
        return made.write_zip(where / "fer2013.zip", rows)
    if form == "zip one down":
        return made.write_zip(where / "archive.zip", rows, "fer2013/")
    return made.write_csv(where / f"fer2013{form}", rows)


FORMS = ("folder", "zip", "zip one down", ".csv", ".csv.gz", ".csv.xz")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_faces(form: str, tmp_path: Path) -> None:
    rows = made.rows(training=3, public=2, private=1)
    parts = data.load(write(form, tmp_path, rows))
    for part, usage in (("train", "Training"), ("validation", "PublicTest"), ("test", "PrivateTest")):
        expected = [row for row in rows if row.usage == usage]
        faces = parts[part]  # type: ignore[index]
        assert faces.names == tuple(row.name for row in expected)
        assert faces.pixels.dtype == np.uint8
        assert np.array_equal(faces.pixels[..., 0], np.stack([row.face for row in expected]))
        assert [EMOTIONS[label] for label in faces.labels] == [row.emotion for row in expected]


def test_digest_depends_on_the_faces_only(tmp_path: Path) -> None:
    rows = made.rows()
    digests = {data.digest(data.load(write(form, tmp_path, rows))) for form in FORMS}
    assert len(digests) == 1
    rows[3].face[0, 0] ^= 1
    assert data.digest(data.load(made.write_zip(tmp_path / "other.zip", rows))) not in digests


def test_jpeg_and_colour_pictures_are_read(tmp_path: Path) -> None:
    root = made.write_folder(tmp_path, made.rows(training=1))
    grey = np.full((48, 48), 90, np.uint8)
    made.write_file(root / "train/happy/Training_90001.jpg", made.picture(grey, "JPEG"))
    made.write_file(root / "train/happy/Training_90002.png", made.picture(np.stack([grey] * 3, axis=-1)))
    found = data.load(root)["train"]
    for name in ("train/happy/Training_90001.jpg", "train/happy/Training_90002.png"):
        assert np.abs(found.pixels[found.names.index(name)].astype(int) - 90).max() <= 1


def test_columns_in_another_order_and_with_spaces(tmp_path: Path) -> None:
    pixels = " ".join(["7"] * 48 * 48)
    path = tmp_path / "icml_face_data.csv"
    path.write_text(f"emotion, Usage, pixels\n3, PrivateTest, {pixels}\n")
    faces = data.load(path)["test"]
    assert faces.names == ("test/happy/PrivateTest_00000.png",)
    assert (faces.pixels == 7).all()


def unnamed(root: Path, folders: dict[str, int]) -> Path:
    """A folder whose file names don't name a part."""
    for folder, count in folders.items():
        for row in made.rows(training=count, public=0):
            made.write_file(root / folder / row.emotion / f"im{row.number}.png", made.picture(row.face))
    return root


def test_stratified_tenth_of_train_replaces_missing_validation(tmp_path: Path) -> None:
    root = unnamed(tmp_path, {"train": 20, "test": 1})
    parts = data.load(root)
    assert {part: len(faces) for part, faces in parts.items()} == {"train": 126, "validation": 14, "test": 7}
    assert set(Counter(parts["validation"].labels.tolist()).values()) == {2}
    assert not set(parts["train"].names) & set(parts["validation"].names)
    assert data.load(root)["validation"].names == parts["validation"].names


def test_test_pictures_alone_can_be_scored(tmp_path: Path) -> None:
    assert len(data.load_for_scoring(unnamed(tmp_path, {"test": 2}), "test")[1]) == 14


def test_strangers_test_pictures_are_scored_without_asking_and_private_test_is_not(tmp_path: Path) -> None:
    assert data.load_for_scoring(unnamed(tmp_path / "a", {"test": 1}), "validation")[0] == "test"
    both = unnamed(tmp_path / "b", {"test": 1, "train": 20})
    assert data.load_for_scoring(both, "validation")[0] == "validation"
    private = made.write_zip(tmp_path / "private.zip", made.rows(training=0, public=0, private=1))
    assert data.load_for_scoring(private, "test")[0] == "test"
    with pytest.raises(UserError, match="expected validation pictures, found none"):
        data.load_for_scoring(private, "validation")


def test_missing_test_pictures(tmp_path: Path) -> None:
    path = made.write_zip(tmp_path / "fer2013.zip", made.rows(training=1, public=1))
    with pytest.raises(UserError, match=r"expected test pictures, found none .*7 for validation"):
        data.load_for_scoring(path, "test")


@pytest.mark.parametrize("form", ["zip", ".csv"])
def test_only_the_wanted_pictures(form: str, tmp_path: Path) -> None:
    rows = made.rows()
    path = write(form, tmp_path, rows)
    wanted = [rows[40].name, rows[30].name, rows[40].name]
    _, faces = data.load_for_scoring(path, "validation", wanted)
    assert faces.names == (rows[30].name, rows[40].name)
    assert np.array_equal(faces.pixels[1, ..., 0], rows[40].face)


def test_missing_wanted_picture(tmp_path: Path) -> None:
    path = made.write_zip(tmp_path / "fer2013.zip", made.rows())
    with pytest.raises(UserError, match=r"test/sad/PublicTest_99999.png: .*found no such picture"):
        data.load_for_scoring(path, "validation", ["test/sad/PublicTest_99999.png"])
    with pytest.raises(UserError, match="found it among those for train"):
        data.load_for_scoring(path, "validation", ["train/angry/Training_00000.png"])


def test_files_of_file_managers_are_ignored(tmp_path: Path) -> None:
    root = made.write_folder(tmp_path / "fer", made.rows(training=1))
    made.write_file(root / "train/.DS_Store", b"x")
    made.write_file(root / "train/happy/Thumbs.db", b"x")
    made.write_file(root / "README.txt", b"x")
    assert len(data.load(root)["train"]) == 7


def test_shared_zip(shared: Path) -> None:
    _, faces = data.load_for_scoring(shared / "data/fer2013.zip", "validation")
    assert len(faces) == 3579
    assert faces.names[0] == "test/angry/PublicTest_28709.png"
    assert Counter(faces.labels.tolist())[EMOTIONS.index("disgust")] == 56
