"""Which mistakes are listed and plotted, and in which order."""

from pathlib import Path

import numpy as np
import pytest

from trainer.dataset import Faces
from trainer.metrics import Predictions
from trainer.plots import draw_mistakes, list_mistakes, most_confident, worst

FACES = Faces(np.zeros((6, 48, 48, 1), np.uint8), np.zeros(6, np.int64), tuple("abcdef"))


def row(predicted: int, confidence: float, angry: float = 0.0) -> list[float]:
    """Probabilities: `predicted` with `confidence`, angry as given, the rest for disgust."""
    found = [0.0] * 7
    found[predicted], found[0] = confidence, max(angry, found[0] if predicted else confidence)
    found[1] += 1 - sum(found)
    return found


# The picture "a" has no label; of the others, all angry, "b" is right.
PREDICTIONS = Predictions(
    "consensus",
    "consensus",
    np.arange(1, 6),
    np.zeros(5, np.int64),
    np.array(
        [row(0, 0.9), row(3, 0.6, 0.01), row(3, 0.8, 0.2), row(4, 0.7, 0.1), row(5, 0.95, 0.05)], np.float32
    ),
)


def test_most_confident_mistakes_come_first() -> None:
    assert most_confident(PREDICTIONS).tolist() == [4, 2, 3, 1]
    first = list_mistakes(PREDICTIONS, FACES, most_confident(PREDICTIONS))[0]
    assert first == {
        "picture": "f",
        "true": "angry",
        "true_probability": pytest.approx(0.05),
        "predicted": "surprise",
        "confidence": pytest.approx(0.95),
    }


def test_worst_mistakes_have_the_least_probability_for_the_true_emotion() -> None:
    found = worst(PREDICTIONS)
    assert found["angry"].tolist() == [1, 4, 3, 2]
    assert found["happy"].tolist() == [], "no picture is happy"
    listed = list_mistakes(PREDICTIONS, FACES, found["angry"])
    assert [mistake["picture"] for mistake in listed] == ["c", "f", "e", "d"]


def test_mistakes_are_plotted_even_if_there_are_none(tmp_path: Path) -> None:
    right = Predictions(
        "fer2013", "fer2013", PREDICTIONS.indices[:1], PREDICTIONS.labels[:1], PREDICTIONS.probabilities[:1]
    )
    for predictions in (PREDICTIONS, right):
        draw_mistakes(predictions, FACES, "validation", tmp_path)
    names = {"mistakes.png", "worst.png", "mistakes-consensus.png", "worst-consensus.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
