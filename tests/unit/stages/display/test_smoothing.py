"""What is shown of a track, from what its frames say."""

import math

import msgspec
import pytest

from pipeline.common.labels import EMOTIONS
from stages.display.tracks import BAND, CLEAR_LEAD, LEAD, MAX_UNSEEN_S, SHORT, SmoothedTrack, Smoother

FPS = 25


def row(**probabilities: float) -> list[float]:
    """Return seven probabilities; what is not named has none."""
    return [probabilities.get(emotion, 0.0) for emotion in EMOTIONS]


HAPPY, SAD = row(happy=0.9, sad=0.1), row(happy=0.1, sad=0.9)


def shown(smoother: Smoother, rows: list[list[float]], begin_s: float = 0.0) -> list[str]:
    """Return the emotions shown for the only face of a scene."""
    return [
        smoother.update(begin_s + number / FPS, [1], [values])[0].emotion
        for number, values in enumerate(rows)
    ]


def test_first_frame_is_shown_as_it_is() -> None:
    (found,) = Smoother(0.5).update(0.0, [1], [HAPPY])
    assert (found.emotion, found.confidence) == ("happy", 0.9)
    assert found.probabilities == dict(zip(EMOTIONS, HAPPY, strict=True))


def test_a_frame_counts_less_the_older_it_is() -> None:
    smoother = Smoother(0.5, clear_lead=2.0)
    for time_s, values in ((0.0, HAPPY), (0.2, SAD), (0.7, SAD)):
        (found,) = smoother.update(time_s, [1], [values])
    weights = [math.exp(-(0.7 - time_s) / 0.5) for time_s in (0.0, 0.2, 0.7)]
    happy = (0.9 * weights[0] + 0.1 * weights[1] + 0.1 * weights[2]) / sum(weights)
    assert found.probabilities["happy"] == pytest.approx(happy, abs=1e-4)


def test_single_frames_change_nothing() -> None:
    values = [HAPPY if number % 5 else SAD for number in range(1, 50)]
    assert set(shown(Smoother(0.5), values)) == {"happy"}


LEANING = row(happy=0.5, sad=0.4), row(happy=0.42, sad=0.52)
"""Two expressions of which neither is clear."""


@pytest.mark.parametrize("fps", [5, 25, 100])
@pytest.mark.parametrize(
    ("old", "new", "expected_s"),
    [
        (HAPPY, SAD, SHORT * 0.5 * math.log(2 / (1 - CLEAR_LEAD / 0.8))),
        (*LEANING, 0.5 * math.log(2 / (1 - LEAD / 0.1))),
    ],
)
def test_a_change_that_lasts_is_shown_after_the_same_time_at_any_rate(
    fps: int, old: list[float], new: list[float], expected_s: float
) -> None:
    smoother = Smoother(0.5)
    for number in range(3 * fps):
        smoother.update(number / fps, [1], [old])
    delay = next(
        number / fps
        for number in range(3 * fps)
        if smoother.update(3 + number / fps, [1], [new])[0].emotion == "sad"
    )
    assert delay == pytest.approx(expected_s, abs=1 / fps + 0.01)


def test_what_came_before_a_clear_change_is_forgotten() -> None:
    smoother = Smoother(0.5)
    found = [smoother.update(n / FPS, [1], [HAPPY if n < 50 else SAD])[0] for n in range(56)]
    changed = next(face for face in found if face.emotion == "sad")
    assert changed.confidence > changed.probabilities["happy"] + CLEAR_LEAD
    assert found[-1].confidence > 0.75


@pytest.mark.parametrize("fps", [5, 12.5, 25])
def test_one_frame_changes_nothing_at_any_rate(fps: float) -> None:
    smoother = Smoother(0.5)
    found = {smoother.update(n / fps, [1], [SAD if n % 8 == 7 else HAPPY])[0].emotion for n in range(50)}
    assert found == {"happy"}


def test_emotions_that_are_almost_as_probable_do_not_take_turns() -> None:
    even = [row(happy=0.5 + 0.02 * sign, sad=0.5 - 0.02 * sign) for sign in (1, -1)]
    values = [even[number // 50 % 2] for number in range(400)]
    assert set(shown(Smoother(0.5), values)) == {"happy"}


def test_confidence_is_that_of_the_emotion_shown() -> None:
    smoother = Smoother(0.5)
    smoother.update(0.0, [1], [row(happy=0.52, sad=0.48)])
    (found,) = smoother.update(0.04, [1], [row(happy=0.46, sad=0.54)])
    assert (found.emotion, found.confidence, found.probabilities["sad"]) == ("happy", 0.4888, 0.5112)


def test_below_the_threshold_a_face_is_uncertain() -> None:
    smoother = Smoother(0.5, uncertain_below=0.6)
    assert not smoother.update(0.0, [1], [row(happy=0.6, sad=0.4)])[0].uncertain
    assert smoother.update(0.0, [2], [row(happy=0.59, sad=0.41)])[0].uncertain


def test_near_the_threshold_a_face_stays_what_it_is() -> None:
    smoother = Smoother(0.5, uncertain_below=0.6)
    low, high = 0.6 - 0.9 * BAND, 0.6 + 0.9 * BAND
    for sure, uncertain in ((0.61, False), (low, False), (0.3, True), (high, True), (0.9, False)):
        found = [smoother.update(sure + n, [1], [row(happy=sure, fear=0.01)])[0].uncertain for n in range(9)]
        assert found[-1] == uncertain, sure


def test_tracks_do_not_mix() -> None:
    smoother = Smoother(0.5)
    for number in range(10):
        found = smoother.update(number / FPS, [1, 2], [HAPPY, SAD])
    assert [face.confidence for face in found] == [0.9, 0.9]
    assert smoother.update(0.4, [3], [SAD])[0].confidence == 0.9


def test_tracks_that_have_ended_are_forgotten() -> None:
    smoother = Smoother(0.5)
    smoother.update(0.0, [1, 2], [HAPPY, SAD])
    smoother.update(MAX_UNSEEN_S / 2, [2], [SAD])
    assert set(smoother.state) == {1, 2}
    smoother.update(MAX_UNSEEN_S + 0.04, [2], [SAD])
    assert set(smoother.state) == {2}


@pytest.mark.parametrize("alone", [False, True])
def test_without_smoothing_each_frame_stands_for_itself(alone: bool) -> None:
    """It is off, or the source is a folder of pictures that have nothing to do with each other."""
    smoother = Smoother(0.5 if alone else 0.0)
    found = [smoother.update(n / FPS, [1], [v], alone=alone)[0] for n, v in enumerate([HAPPY, SAD, HAPPY])]
    assert [face.emotion for face in found] == ["happy", "sad", "happy"]
    assert not smoother.state


def test_time_that_stands_still_or_runs_back_is_no_trouble() -> None:
    smoother = Smoother(0.5)
    for time_s in (1.0, 1.0, 0.5, 0.0):
        (found,) = smoother.update(time_s, [1], [HAPPY])
    assert found.confidence == 0.9


def test_a_new_smoother_goes_on_from_the_state_of_another() -> None:
    rows = [HAPPY, HAPPY, SAD, SAD, SAD, HAPPY] * 10
    whole, first = Smoother(0.5), Smoother(0.5)
    expected = [whole.update(n / FPS, [1], [v]) for n, v in enumerate(rows)]
    for number, values in enumerate(rows[:30]):
        first.update(number / FPS, [1], [values])
    state = msgspec.json.decode(msgspec.json.encode(first.state), type=dict[int, SmoothedTrack])
    second = Smoother(0.5, tracks=state)
    assert [second.update(n / FPS, [1], [v]) for n, v in enumerate(rows) if n >= 30] == expected[30:]
