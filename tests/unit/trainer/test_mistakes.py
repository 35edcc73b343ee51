"""Which mistakes are shown, and in which order."""

from pathlib import Path

import numpy as np
import pytest

from trainer.data.faces import Faces
from trainer.scoring.metrics import Judged
from trainer.scoring.plots import (
    listed,
    listed_worst,
    most_confident,
    plot_most_confident,
    plot_worst,
    worst,
)

FACES = Faces(np.zeros((6, 48, 48, 1), np.uint8), np.zeros(6, np.int64), tuple("abcdef"))


def row(said: int, confidence: float, truth: float = 0.0) -> list[float]:
    """Probabilities: `said` with `confidence`, angry with `truth`, the rest disgust's."""
    found = [0.0] * 7
    found[said], found[0] = confidence, max(truth, found[0] if said else confidence)
    found[1] += 1 - sum(found)
    return found


# The picture "a" has no truth; of the others, all angry, "b" is right.
JUDGED = Judged(
    "consensus",
    "consensus",
    np.arange(1, 6),
    np.zeros(5, np.int64),
    np.array(
        [row(0, 0.9), row(3, 0.6, 0.01), row(3, 0.8, 0.2), row(4, 0.7, 0.1), row(5, 0.95, 0.05)], np.float32
    ),
)


def test_the_most_confident_come_first_and_what_is_right_not_at_all() -> None:
    assert most_confident(JUDGED).tolist() == [4, 2, 3, 1]
    assert most_confident(JUDGED, 2).tolist() == [4, 2]
    first = listed(JUDGED, FACES, most_confident(JUDGED))[0]
    assert first == {
        "picture": "f",
        "true": "angry",
        "true_probability": pytest.approx(0.05),
        "predicted": "surprise",
        "confidence": pytest.approx(0.95),
    }


def test_the_worst_give_the_true_emotion_least() -> None:
    assert worst(JUDGED, 0).tolist() == [1, 4, 3, 2]
    assert worst(JUDGED, 3).tolist() == [], "no picture is truly happy"
    by_emotion = listed_worst(JUDGED, FACES)
    assert [mistake["picture"] for mistake in by_emotion["angry"]] == ["c", "f", "e", "d"]
    assert by_emotion["happy"] == []


@pytest.mark.parametrize("plot", [plot_most_confident, plot_worst])
def test_pictures_of_them_and_of_none(plot: object, tmp_path: Path) -> None:
    assert callable(plot)
    right = Judged("fer2013", "fer2013", JUDGED.chosen[:1], JUDGED.labels[:1], JUDGED.probabilities[:1])
    for name, judged in (("some.png", JUDGED), ("none.png", right)):
        plot(judged, FACES, "mistakes", tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
