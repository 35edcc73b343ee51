"""The demo: the same frames each time, with as many faces as asked for."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.common.labels import EMOTIONS
from stages.capture.sources.demo import CHANGE, EXPRESSIONS, FRAMES, HOLD
from stages.classify.classifier import open_classifier
from stages.classify.spec import ClassifySettings
from stages.detect.detector import detect_step, open_detector
from stages.detect.haar import HaarDetector
from stages.detect.spec import DetectSettings
from tests.support.media import open_source, play

LOOKED_AT = (0, 70, 151, 222)


def frames(text: str, numbers: tuple[int, ...]) -> list[NDArray[np.uint8]]:
    reader = open_source(text)
    images = []
    for number in range(max(numbers) + 1):
        picture = reader.read()
        assert picture is not None
        assert picture.image is not None
        if number in numbers:
            images.append(picture.image)
    return images


def test_300_frames_the_same_each_time() -> None:
    first, second = open_source("demo"), open_source("demo")
    count = 0
    while (picture := first.read()) is not None:
        again = second.read()
        assert again is not None
        assert picture.time_s == again.time_s == pytest.approx(count / 25)
        assert np.array_equal(picture.image, again.image)  # type: ignore[arg-type]
        count += 1
    assert count == 300
    assert second.read() is None


def test_the_end_leads_back_to_the_beginning() -> None:
    start, after, end = frames("demo:1", (0, 1, 299))
    step = np.abs(start.astype(int) - after).mean()
    assert np.abs(start.astype(int) - end).mean() < 2 * step
    assert step > 0


@pytest.mark.parametrize("text", ["demo", "demo:1"])
def test_the_shipped_model_names_each_expression_in_turn(text: str) -> None:
    """In frames between two changes; in the scene one of the upper faces is the first from the left."""
    detector, classifier = open_detector(DetectSettings()), open_classifier(ClassifySettings())
    numbers = tuple(turn * HOLD + since for turn in range(FRAMES // HOLD) for since in (CHANGE, HOLD - 1))
    named = []
    for image in frames(text, numbers):
        faces, crops = detect_step(detector, image)
        best = classifier(crops).argmax(axis=1)
        above = [
            (face.box_px[0], EMOTIONS[emotion])
            for face, emotion in zip(faces, best, strict=True)
            if text == "demo:1" or face.box_px[1] < 200
        ]
        named.append([emotion for _, emotion in sorted(above)])
    for index, emotions in enumerate(named):
        assert EXPRESSIONS[index // 2] in emotions


def test_in_the_scene_a_face_comes_one_leaves_and_two_cross() -> None:
    detector = open_detector(DetectSettings())
    found = [detector.detect(image) for image in frames("demo", (20, 85, 112, 180, 262))]
    assert [len(faces) for faces in found] == [3, 4, 3, 3, 2]
    left, right = (
        sorted(face.box_px[0] for face in faces if face.box_px[1] < 200) for faces in (found[0], found[3])
    )
    assert left[0] < 200 and right[1] > 400


@pytest.mark.parametrize("faces", [1, 2, 4, 8, 16])
def test_haar_finds_each_face(faces: int) -> None:
    detector = HaarDetector(DetectSettings())
    assert [len(detector.detect(image)) for image in frames(f"demo:{faces}", LOOKED_AT)] == [faces] * 4


@pytest.mark.parametrize("faces", [1, 2, 4, 8, 16, 100])
def test_yunet_finds_each_face(faces: int) -> None:
    detector = open_detector(DetectSettings())
    found = [len(detector.detect(image)) for image in frames(f"demo:{faces}", LOOKED_AT)]
    assert found == [faces] * 4


def test_a_hundred_faces_fit() -> None:
    pictures, error = play("demo:100")
    assert (len(pictures), error) == (300, "")
