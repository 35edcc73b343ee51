"""Pictures, crops and videos from Python, with the project's own detector and model."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import emotions
from pipeline.common.files import PROJECT
from tests.support.media import cut, open_source, write_noise


@pytest.fixture(scope="module")
def analyser() -> emotions.Analyser:
    return emotions.load()


@pytest.fixture(scope="module")
def picture() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A picture of three faces, BGR."""
    frame = open_source("demo").read()
    assert frame is not None and frame.image is not None
    return frame.image


def test_a_picture_gives_a_record(analyser: emotions.Analyser, picture: np.ndarray) -> None:  # type: ignore[type-arg]
    before = picture.copy()
    record = analyser.analyse(picture)
    assert (record.source, record.frame, record.status) == ("image", 0, "ok")
    assert [face.track for face in record.faces] == [1, 2, 3]
    for face in record.faces:
        assert set(face.probabilities) == set(emotions.EMOTIONS)
        assert face.confidence == face.probabilities[face.emotion] == max(face.probabilities.values())
    assert np.array_equal(picture, before)
    assert analyser.analyse(np.zeros((90, 120, 3), np.uint8)).faces == []


def test_a_file_gives_the_same_with_its_name(
    analyser: emotions.Analyser,
    picture: np.ndarray,  # type: ignore[type-arg]
    tmp_path: Path,
) -> None:
    path = tmp_path / "three.png"
    cv2.imwrite(str(path), picture)
    record = analyser.analyse(path)
    assert (record.source, record.file) == ("three.png", "three.png")
    assert record.faces == analyser.analyse(picture).faces
    (again,) = analyser.analyse_video(path)
    assert (again.source, again.file, again.faces) == (record.source, record.file, record.faces)


def test_grey_and_transparent_pictures_are_taken(
    analyser: emotions.Analyser,
    picture: np.ndarray,  # type: ignore[type-arg]
) -> None:
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    assert len(analyser.analyse(grey).faces) == 3
    transparent = cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA)
    assert analyser.analyse(transparent).faces == analyser.analyse(picture).faces
    for floats in (picture / 255, picture.astype(np.float32)):
        assert len(analyser.analyse(floats).faces) == 3


def test_crops_are_classified_in_batches(
    analyser: emotions.Analyser,
    picture: np.ndarray,  # type: ignore[type-arg]
) -> None:
    crops = []
    for x, y, w, h in (face.box for face in analyser.analyse(picture).faces):
        middle, half = (x + w / 2, y + h / 2), h / 2
        left, top, right, bottom = (
            round(v) for v in (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
        )
        crops.append(picture[top:bottom, left:right])
    found = analyser.analyse_batch(crops)
    assert [face.track for face in found] == [1, 2, 3]
    assert found[0].box == (0.0, 0.0, float(crops[0].shape[1]), float(crops[0].shape[0]))
    small = np.zeros((100, 48, 48), np.uint8)  # more than one batch
    assert len(analyser.analyse_batch(small)) == 100
    assert analyser.analyse_batch([]) == []


def test_a_video_gives_a_record_of_every_frame(analyser: emotions.Analyser) -> None:
    records = list(emotions.load("capture.max_frames=12").analyse_video("demo"))
    assert [record.frame for record in records] == list(range(12))
    assert {face.track for record in records for face in record.faces} == {1, 2, 3}
    first = next(iter(analyser.analyse_video("demo")))  # left early: the source closes
    assert first.frame == 0


def test_a_picture_of_a_folder_that_cannot_be_read_has_failed(
    analyser: emotions.Analyser, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "2.png").write_bytes(b"no picture")
    good, bad = analyser.analyse_video(tmp_path)
    assert (good.status, bad.status) == ("ok", "failed")
    assert "not a picture" in str(bad.reason)


def test_a_video_that_was_cut_off_is_said_after_its_frames(
    analyser: emotions.Analyser, tmp_path: Path
) -> None:
    clip = cut(write_noise(tmp_path / "clip.mp4"), 0.5)
    seen = 0
    with pytest.raises(emotions.Error, match=r"clip\.mp4: cut off"):
        for _ in analyser.analyse_video(clip):
            seen += 1
    assert seen


def test_a_record_is_drawn_on_a_copy(analyser: emotions.Analyser, picture: np.ndarray) -> None:  # type: ignore[type-arg]
    before = picture.copy()
    drawn = emotions.draw(picture, analyser.analyse(picture))
    assert np.array_equal(picture, before)
    assert not np.array_equal(drawn, before)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("none.jpg", "none.jpg: unreadable: No such file"),
        (PROJECT, "unreadable: not a file"),
        (PROJECT / "run.py", "not a picture"),
        ([1, 2], "found list"),
        (np.zeros((2, 2, 2), np.uint8), r"found uint8 of shape \(2, 2, 2\)"),
        (np.zeros((0, 2, 3), np.uint8), "shape"),
        (np.zeros((2, 2, 3), np.int64), "found int64"),
    ],
)
def test_what_is_no_picture_is_one_line(analyser: emotions.Analyser, image: object, message: str) -> None:
    with pytest.raises(emotions.Error, match=message) as caught:
        analyser.analyse(image)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_what_cannot_be_loaded_is_one_line(analyser: emotions.Analyser) -> None:
    with pytest.raises(emotions.Error, match="did you mean detect"):
        emotions.load("detct.model=haar")
    with pytest.raises(emotions.Error, match="no emotion model"):
        emotions.load("classify.model=none.onnx")
    with pytest.raises(emotions.Error, match="no configuration file"):
        emotions.load(config="none.toml")
    with pytest.raises(emotions.Error, match="no such file"):
        next(analyser.analyse_video("none.mp4"))


def test_the_import_loads_nothing_heavy() -> None:
    heavy = "cv2 onnxruntime zmq matplotlib"
    code = f"import emotions, sys; print(sorted(set('{heavy}'.split()) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
