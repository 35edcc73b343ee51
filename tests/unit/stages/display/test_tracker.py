import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.common.files import PROJECT
from stages.detect.detector import open_detector
from stages.detect.spec import DetectSettings
from stages.display.record import Box, round_box
from stages.display.tracks import MAX_MISSED, MAX_UNSEEN_S, Tracker, TrackerState

SHARED = PROJECT / ".." / "shared"
FPS = 25
HERE: Box = (100.0, 100.0, 40.0, 50.0)
FAR: Box = (400.0, 100.0, 40.0, 50.0)


def test_numbers_begin_at_one_and_stay() -> None:
    tracker = Tracker()
    assert tracker.update(0.0, [HERE, FAR]) == [1, 2]
    assert tracker.update(0.04, [FAR, HERE]) == [2, 1]


def test_a_face_that_comes_gets_a_new_number_and_one_that_left_keeps_its_own() -> None:
    tracker = Tracker()
    tracker.update(0.0, [HERE])
    assert tracker.update(0.04, [FAR]) == [2]
    assert tracker.update(0.08, [HERE]) == [1]


def test_a_face_away_for_too_many_frames_is_new() -> None:
    for missed, expected in ((MAX_MISSED, 1), (MAX_MISSED + 1, 2)):
        tracker = Tracker()
        tracker.update(0.0, [HERE])
        for frame in range(missed):
            tracker.update((frame + 1) / (2 * FPS), [])
        assert tracker.update((missed + 1) / (2 * FPS), [HERE]) == [expected]


@pytest.mark.parametrize(("gap_s", "expected"), [(MAX_UNSEEN_S - 0.1, 1), (MAX_UNSEEN_S + 0.1, 2)])
def test_dropped_frames_end_a_track_only_after_a_time(gap_s: float, expected: int) -> None:
    tracker = Tracker()
    tracker.update(0.0, [HERE])
    assert tracker.update(gap_s, [HERE]) == [expected]


@pytest.mark.parametrize("fps", [5, 12.5, 30])
@pytest.mark.parametrize("speed", [1, 2, 4, 8])
def test_faces_that_cross_keep_their_numbers(fps: float, speed: float) -> None:
    """Two faces of 60 px pass each other, `speed` face widths a second; one hides the other."""
    tracker = Tracker()
    seen: set[tuple[str, int]] = set()
    for frame in range(int(2.5 * fps)):
        right = 100 + speed * 60 * frame / fps
        left = 100 + speed * 60 * (2.5 - frame / fps)
        boxes = {"right": round_box((right, 100, 60, 78)), "left": round_box((left, 104, 58, 76))}
        if abs(right - left) < 30:
            del boxes["left"]
        tracks = tracker.update(frame / fps, list(boxes.values()))
        seen |= set(zip(boxes, tracks, strict=True))
    assert seen == {("right", 1), ("left", 2)}


def test_a_much_larger_face_in_the_same_place_is_another() -> None:
    tracker = Tracker()
    tracker.update(0.0, [HERE])
    assert tracker.update(0.04, [(60.0, 60.0, 120.0, 150.0)]) == [2]


boxes = st.tuples(st.floats(-50, 600), st.floats(-50, 400), st.floats(0.01, 200), st.floats(0.01, 200)).map(
    round_box
)
frames = st.lists(
    st.tuples(st.sampled_from([0.0, 0.04, 0.0333, 0.5, 3.0]), st.lists(boxes, max_size=6)), max_size=25
)


@given(frames)
def test_numbers_are_unique_in_a_frame_and_new_ones_follow_on(run: list[tuple[float, list[Box]]]) -> None:
    tracker, time_s, highest = Tracker(), 0.0, 0
    for step_s, found in run:
        time_s += step_s
        tracks = tracker.update(time_s, found)
        assert len(set(tracks)) == len(found)
        new = [track for track in tracks if track > highest]
        assert new == list(range(highest + 1, highest + 1 + len(new)))
        highest += len(new)


@given(frames)
def test_a_new_process_goes_on_with_the_same_numbers(run: list[tuple[float, list[Box]]]) -> None:
    undisturbed, resumed, time_s = Tracker(), Tracker(), 0.0
    for step_s, found in run:
        time_s = round(time_s + step_s, 4)
        resumed = Tracker(msgspec.json.decode(msgspec.json.encode(resumed.state), type=TrackerState))
        assert resumed.update(time_s, found) == undisturbed.update(time_s, found)


@pytest.mark.parametrize(
    ("clip", "every", "people"),
    [
        ("three_faces_walking.mp4", 1, 3),
        ("three_faces_walking.mp4", 6, 3),
        ("one_face_expressions.mp4", 1, 1),
        ("one_face_hand_over_mouth.mp4", 1, 1),
    ],
)
def test_real_people_keep_their_numbers(clip: str, every: int, people: int) -> None:
    video = SHARED / "video" / clip
    if not video.exists():
        pytest.skip("../shared is absent: no real clips")
    capture = cv2.VideoCapture(str(video))
    detector = open_detector(DetectSettings())
    fps, tracker, tracks, number = capture.get(cv2.CAP_PROP_FPS), Tracker(), set(), 0
    while (read := capture.read())[0]:
        if number % every == 0:
            faces = detector.detect(np.asarray(read[1], np.uint8))
            boxes = [round_box(face.box_px) for face in faces]
            tracks |= set(tracker.update(round(number / fps, 4), boxes))
        number += 1
    assert tracks == set(range(1, people + 1))
