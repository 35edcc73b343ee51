"""Data sets as people have them: other folders, names, numbers, sizes and tables than FER2013's."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from tests.support import fer_faces as made
from trainer import dataset as data
from trainer.pictures import Reading, emotions_named

RAF_DB = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")


def write(root: Path, folders: dict[str, int], names: dict[str, str] | None = None, size: int = 48) -> Path:
    """Folders with so many faces of each emotion, whose folders may have other names."""
    rng = np.random.default_rng(2)
    for folder, count in folders.items():
        for emotion in EMOTIONS:
            for number in range(count):
                pixels = rng.integers(0, 256, (size, size, 3), np.uint8)
                name = (names or {}).get(emotion, emotion)
                made.write_file(root / folder / name / f"{number}.png", made.picture(pixels))
    return root


def zipped(root: Path, path: Path, below: str = "") -> Path:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, below + str(file.relative_to(root)))
    return path


def sizes(parts: dict[data.Part, data.Faces]) -> tuple[int, int, int]:
    return len(parts["train"]), len(parts["validation"]), len(parts["test"])


@pytest.mark.parametrize("name", ["validation", "val", "valid", "Validation"])
@pytest.mark.parametrize("form", ["folder", "zip", "zip in val"])
def test_a_folder_for_validation_is_used(name: str, form: str, tmp_path: Path) -> None:
    path = write(tmp_path / "faces", {"train": 4, name: 2, "test": 1})
    if form != "folder":
        # The folder around all may have a part's name itself.
        path = zipped(path, tmp_path / "faces.zip", "val/" if form == "zip in val" else "")
    assert sizes(data.load(path)) == (28, 14, 7)


def test_pictures_of_a_validation_folder_stay_there(tmp_path: Path) -> None:
    root = write(tmp_path, {"train": 2, "validation": 1})
    (root / "validation/happy/0.png").rename(root / "validation/happy/PrivateTest_10.png")
    assert sizes(data.load(root)) == (14, 7, 0)


def test_folders_of_emotions_alone_are_all_for_training(tmp_path: Path) -> None:
    assert sizes(data.load(write(tmp_path, {".": 20}))) == (126, 14, 0)


@pytest.mark.parametrize(
    "names",
    [
        {emotion: emotion.capitalize() for emotion in EMOTIONS},
        {
            "angry": "anger",
            "happy": "happiness",
            "sad": "sadness",
            "surprise": "Surprised",
            "fear": "fearful",
        },
        {"disgust": "DISGUSTED", "neutral": "Neutral", "surprise": "suprise", "sad": "SADNESS"},
    ],
)
def test_other_spellings_are_understood(names: dict[str, str], tmp_path: Path) -> None:
    root = write(tmp_path, {"train": 2, "val": 1}, names)
    faces = data.load(root)["train"]
    for label, name in zip(faces.labels, faces.names, strict=True):
        emotion = EMOTIONS[label]
        assert name.split("/")[1] == names.get(emotion, emotion)


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_stand_for_the_labels_given(first: int, tmp_path: Path) -> None:
    numbers = {emotion: str(number) for number, emotion in enumerate(RAF_DB, first)}
    root = write(tmp_path, {"validation": 2, "test": 1}, numbers)
    _, faces = data.load_for_scoring(root, "test", reading=Reading(RAF_DB))
    for label, name in zip(faces.labels, faces.names, strict=True):
        assert RAF_DB[int(name.split("/")[1]) - first] == EMOTIONS[label]


def test_a_number_beyond_the_labels(tmp_path: Path) -> None:
    root = write(tmp_path, {"train": 1}, {"neutral": "7", "happy": "1"})
    with pytest.raises(UserError, match="numbers from 1 to 3, found 7; --labels says"):
        data.load(root, Reading(RAF_DB[:3]))


def test_labels_are_named_with_spaces_or_commas() -> None:
    assert emotions_named(["Anger,happiness", "sad"]) == ("angry", "happy", "sad")
    with pytest.raises(UserError, match=r"--labels: expected one of .*found 'hapy' \(is it happy\?\)"):
        emotions_named(["hapy"])
    with pytest.raises(UserError, match="expected each emotion once"):
        emotions_named(["sad", "sadness"])


def test_other_sizes_are_converted_when_asked_for(tmp_path: Path) -> None:
    root = write(tmp_path / "big", {"train": 1, "val": 1}, size=100)
    tall = np.full((96, 48), 200, np.uint8)
    tall[24:72] = 60
    made.write_file(root / "train/sad/tall.png", made.picture(tall))
    with pytest.raises(UserError, match="found 100x100; add --resize"):
        data.load(root)
    faces = data.load(root, Reading(resize=True))["train"]
    assert faces.pixels.shape == (8, 48, 48, 1)
    assert (faces.pixels[faces.names.index("train/sad/tall.png")] == 60).all(), "the middle square"


def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    root = write(tmp_path, {"train": 1, "val": 1})
    made.write_file(root / "train/sad/x.png", made.picture(np.zeros((1, 9000), np.uint8)))
    with pytest.raises(UserError, match="at most 8192 pixels a side, found 9000x1"):
        data.load(root, Reading(resize=True))


def rows_of_csv(header: str, separator: str, size: int = 48) -> str:
    lines = [header.replace(",", separator)]
    for number in range(20):
        for label, emotion in enumerate(EMOTIONS):
            pixels = " ".join([str(label + number)] * size**2)
            cells = {"emotion": str(label), "label": emotion, "pixels": pixels, "Usage": "train"}
            lines.append(separator.join(cells.get(name, cells["emotion"]) for name in header.split(",")))
    return "\n".join([*lines, ""])


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["emotion,pixels", "pixels,Emotion", "emotion,pixels,Usage"])
def test_csv_with_other_separators_and_without_usage(header: str, separator: str, tmp_path: Path) -> None:
    path = tmp_path / "faces.csv"
    path.write_text(rows_of_csv(header, separator).replace("Emotion;0", "Emotion"))
    parts = data.load(path)
    assert sizes(parts) == (126, 14, 0)
    assert (parts["train"].pixels[0] == parts["train"].labels[0]).all()


def test_csv_of_another_size_and_other_numbers(tmp_path: Path) -> None:
    path = tmp_path / "faces.csv"
    path.write_text(rows_of_csv("emotion,pixels", ",", 60))
    with pytest.raises(UserError, match=r"line 2: expected 2304 pixels .*found 3600; add --resize"):
        data.load(path)
    faces = data.load(path, Reading(RAF_DB, resize=True))["train"]
    assert faces.pixels.shape[1:] == (48, 48, 1)
    assert EMOTIONS[faces.labels[0]] == RAF_DB[faces.pixels[0, 0, 0, 0]]


def test_csv_with_names_of_emotions(tmp_path: Path) -> None:
    path = tmp_path / "faces.csv"
    path.write_text(rows_of_csv("label,pixels", ",").replace("label,", "emotion,", 1))
    assert Counter(data.load(path)["train"].labels.tolist()) == dict.fromkeys(range(7), 18)
