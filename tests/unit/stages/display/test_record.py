import json

import numpy as np
import pytest

from pipeline.common.labels import EMOTIONS
from pipeline.wire.messages import Committed
from stages.display.record import Smoothed, advance, make_record, round_box, round_rows, to_json
from tests.support.deliveries import outcome

ROW = [[0.01, 0.0, 0.0123, 0.93, 0.0077, 0.02, 0.02]]
SMOOTHED = [Smoothed("sad", 0.48, True, {"sad": 0.48})]


def test_further_steps_add_numbers_to_a_face() -> None:
    delivery, _, _, now_ns = outcome(12, [(1.0, 2.0, 3.0, 4.0)])
    extras = {"sharpness": np.float32([12.34567]), "pose": np.float64([[0.1, 0.2]])}
    (face,) = make_record(delivery, [(1.0, 2.0, 3.0, 4.0)], [1], ROW, SMOOTHED, now_ns, extras).faces
    assert face.extras == {"sharpness": 12.3457, "pose": [0.1, 0.2]}


def test_a_record_is_exactly_as_the_design_has_it() -> None:
    delivery, _, _, now_ns = outcome(12, [(1.0, 2.0, 3.0, 4.0)])
    record = make_record(delivery, [(1.0, 2.0, 3.0, 4.0)], [1], ROW, SMOOTHED, now_ns)
    assert to_json(record) == (
        b'{"source":"clip.mp4","frame":12,"time_s":0.96,"status":"ok","latency_ms":21.44,"faces":['
        b'{"track":1,"box":[1.0,2.0,3.0,4.0],"emotion":"happy","confidence":0.93,"probabilities":{'
        b'"angry":0.01,"disgust":0.0,"fear":0.0123,"happy":0.93,"sad":0.0077,"surprise":0.02,"neutral":0.02},'
        b'"smoothed":{"emotion":"sad","confidence":0.48,"uncertain":true,"probabilities":{"sad":0.48}}}]}'
    )


@pytest.mark.parametrize("status", ["dropped", "failed"])
def test_what_is_not_ok_says_why_and_has_no_faces(status: str) -> None:
    delivery, _, _, now_ns = outcome(3, status=status, reason="queue full")  # type: ignore[arg-type]
    found = json.loads(to_json(make_record(delivery, [], [], [], [], now_ns)))
    assert (found["status"], found["reason"], found["faces"]) == (status, "queue full", [])


def test_only_a_folders_pictures_name_their_file() -> None:
    delivery, _, _, now_ns = outcome(0, file="a.png")
    assert json.loads(to_json(make_record(delivery, [], [], [], [], now_ns)))["file"] == "a.png"
    delivery, _, _, now_ns = outcome(0)
    assert "file" not in json.loads(to_json(make_record(delivery, [], [], [], [], now_ns)))


def test_the_emotion_is_the_first_of_the_most_probable() -> None:
    delivery, _, _, now_ns = outcome(0, [(0.0, 0.0, 1.0, 1.0)])
    even = round_rows(np.full((1, 7), 1 / 7, np.float32))
    face = make_record(delivery, [(0.0, 0.0, 1.0, 1.0)], [1], even, SMOOTHED, now_ns).faces[0]
    assert face.emotion == EMOTIONS[0]
    assert face.confidence == face.probabilities[EMOTIONS[0]]


def test_faces_without_probabilities_are_a_mistake() -> None:
    delivery, _, _, now_ns = outcome(0, [(0.0, 0.0, 1.0, 1.0)])
    with pytest.raises(ValueError, match="shorter"):
        make_record(delivery, [(0.0, 0.0, 1.0, 1.0)], [1], ROW[:0], SMOOTHED, now_ns)


def test_probabilities_are_rounded_to_four_digits() -> None:
    assert round_rows(np.array([[0.0123456, 0.99999, 0.5]], np.float32)) == [[0.0123, 1.0, 0.5]]


def test_boxes_are_rounded_and_have_no_negative_zero() -> None:
    assert str(round_box((-0.04, 1.25, 3.149, 4.0))) == "(0.0, 1.2, 3.1, 4.0)"


def test_progress_counts_by_status_and_reason() -> None:
    committed = Committed()
    for frame, (status, reason) in enumerate(
        [("ok", ""), ("dropped", "a"), ("failed", "b"), ("dropped", "a")]
    ):
        committed = advance(committed, frame, status, reason)
    assert committed == Committed(offset=4, ok=1, failed=1, dropped={"a": 2})
