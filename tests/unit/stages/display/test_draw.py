import numpy as np
import pytest

from pipeline.common.labels import EMOTIONS
from stages.display.drawing import COLOURS, UNCERTAIN, draw_faces, line_px, mirrored
from stages.display.record import Box, FaceRecord, Smoothed

GREY = 130


def face(box: Box, emotion: str = "happy", confidence: float = 0.93, uncertain: bool = False) -> FaceRecord:
    """Return a face of which this frame alone would say fear."""
    return FaceRecord(1, box, "fear", 0.4, {}, Smoothed(emotion, confidence, uncertain, {}))


def changed(height: int, width: int, faces: list[FaceRecord]) -> np.ndarray:
    """Return which pixels of a grey frame change, bool (height, width)."""
    image = np.full((height, width, 3), GREY, np.uint8)
    draw_faces(image, faces)
    marks: np.ndarray = (image != GREY).any(axis=2)
    return marks


def test_every_emotion_has_a_colour_of_its_own() -> None:
    assert tuple(COLOURS) == EMOTIONS
    assert len(set(COLOURS.values())) == len(EMOTIONS)


def test_only_the_box_and_the_label_above_it_are_drawn() -> None:
    marks = changed(480, 640, [face((200.0, 200.0, 100.0, 120.0))])
    rim = line_px(np.zeros((480, 640, 3), np.uint8)) + 2
    assert marks[200, 200:300].all() and marks[200:320, 200].all() and marks[320, 200:300].all()
    assert not marks[200 + rim : 320 - rim, 200 + rim : 300 - rim].any()  # the face itself is left free
    rows, columns = np.nonzero(marks)
    assert 150 < rows.min() < 190 and rows.max() <= 320 + rim
    assert columns.min() >= 200 - rim and columns.max() < 350


def test_a_label_has_its_emotions_colour_and_a_text_on_it() -> None:
    image = np.full((480, 640, 3), GREY, np.uint8)
    draw_faces(image, [face((200.0, 200.0, 100.0, 120.0), "sad")])
    label = image[180:196, 202:300].reshape(-1, 3)
    assert (label == COLOURS["sad"]).all(axis=1).mean() > 0.4
    assert (label == 255).all(axis=1).any()


@pytest.mark.parametrize(
    "box",
    [
        (-20.0, -20.0, 80.0, 90.0),
        (600.0, 440.0, 90.0, 90.0),
        (0.0, 0.0, 640.0, 480.0),
        (635.0, 5.0, 9.0, 9.0),
    ],
)
def test_the_label_stays_inside_the_frame(box: Box) -> None:
    """It is as large as the same label in the middle of the frame."""
    image = np.full((480, 640, 3), GREY, np.uint8)
    draw_faces(image, [face(box)])
    middle = np.full((480, 640, 3), GREY, np.uint8)
    draw_faces(middle, [face((200.0, 200.0, box[2], box[3]))])

    def filled(picture: np.ndarray) -> int:
        return int((picture == COLOURS["happy"]).all(axis=2).any(axis=0).sum())

    assert filled(image) >= min(60, filled(middle) - 4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (37, 41), (2160, 3840)])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_any_frame_size_and_number_of_faces(shape: tuple[int, int], count: int) -> None:
    height, width = shape
    faces = [
        face((width * (i % 10) / 10, height * (i // 10) / 10, width / 12, height / 12), EMOTIONS[i % 7])
        for i in range(count)
    ]
    assert changed(height, width, faces).any() == (count > 0)


def test_in_a_crowd_labels_give_way_to_the_emotion_alone() -> None:
    apart = changed(480, 640, [face((100.0, 200.0, 40.0, 50.0)), face((400.0, 200.0, 38.0, 50.0))])
    close = changed(480, 640, [face((100.0, 200.0, 40.0, 50.0)), face((145.0, 200.0, 38.0, 50.0))])
    assert close.sum() < apart.sum()


def test_an_uncertain_face_has_a_colour_of_its_own_and_a_label_without_confidence() -> None:
    box = (200.0, 200.0, 100.0, 120.0)
    drawn = []
    for confidence in (0.3, 0.4):
        image = np.full((480, 640, 3), GREY, np.uint8)
        draw_faces(image, [face(box, "sad", confidence, uncertain=True)])
        drawn.append(image)
    assert np.array_equal(*drawn)
    assert (drawn[0] == UNCERTAIN).all(axis=2).any()
    assert not (drawn[0] == COLOURS["sad"]).all(axis=2).any()


def test_a_mirrored_face_stands_on_the_other_side() -> None:
    assert mirrored(face((10.0, 20.0, 30.0, 40.0)), 100).box == (60.0, 20.0, 30.0, 40.0)
