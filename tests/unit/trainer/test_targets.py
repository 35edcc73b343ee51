"""Targets and weights of each picture."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from trainer.dataset import Faces
from trainer.settings import MODELS, Settings, change, read_settings
from trainer.training_data import make_targets, not_learned

SMALL = change(
    read_settings(MODELS / "small.toml"),
    {"fitting.label_smoothing": 0.1, "fitting.fewest_votes": 5, "fitting.teacher_share": 0.25},
)


def faces(labels: list[int]) -> Faces:
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 48, 48, 1), dtype=np.uint8)
    return Faces(pixels, np.array(labels, np.int64), tuple(f"{index}.png" for index in range(len(labels))))


def votes(*rows: dict[int, int]) -> NDArray[np.uint8]:
    found = np.zeros((len(rows), 10), np.uint8)
    for row, counts in zip(found, rows, strict=True):
        for column, count in counts.items():
            row[column] = count
    return found


def test_labels_are_smoothed_and_votes_become_shares() -> None:
    others = [1, 2, 4, 5, 6]
    people = votes({3: 6, 6: 2, 7: 2}, {0: 4, 8: 6}, *[{label: 10} for label in others])
    made = make_targets(SMALL, faces([3, 0, *others]), people, None)
    assert made.probabilities["fer2013"][0] == pytest.approx([0.1 / 7] * 3 + [0.9 + 0.1 / 7] + [0.1 / 7] * 3)
    assert made.probabilities["consensus"][0] == pytest.approx([0, 0, 0, 0.75, 0, 0, 0.25])
    assert made.weights["fer2013"].tolist() == [1] * 7
    assert made.weights["consensus"].tolist() == [1, 0, 1, 1, 1, 1, 1]  # four of ten votes are too few
    assert all(
        values.dtype == np.float32 for values in (*made.probabilities.values(), *made.weights.values())
    )


def test_emotions_without_pictures_have_no_share() -> None:
    made = make_targets(SMALL, faces([3, 0]), votes({3: 8, 6: 2}, {0: 10}), None)
    assert made.probabilities["fer2013"][0] == pytest.approx([0.05, 0, 0, 0.95, 0, 0, 0])
    assert not_learned(made) == {
        "fer2013": ["disgust", "fear", "sad", "surprise", "neutral"],
        "consensus": ["disgust", "fear", "sad", "surprise"],
    }


def test_teachers_have_their_share_and_replace_missing_votes() -> None:
    teacher_probs = {name: np.full((2, 7), 1 / 7, np.float32) for name in ("fer2013", "consensus")}
    made = make_targets(SMALL, faces([3, 0]), votes({3: 10}, {8: 10}), teacher_probs)
    assert made.probabilities["consensus"][0, 3] == pytest.approx(0.75 + 0.25 / 7)
    assert made.probabilities["consensus"][1] == pytest.approx([1 / 7] * 7)
    assert made.weights["consensus"].tolist() == [1, 0.25]
    assert made.probabilities["fer2013"].sum(axis=1) == pytest.approx([1, 1])
    assert made.probabilities["fer2013"][0, 3] == pytest.approx(0.75 * 0.95 + 0.25 / 7)


@pytest.mark.parametrize("outputs", [("fer2013",), ("consensus",)])
def test_either_output_alone(outputs: tuple[str, ...]) -> None:
    settings: Settings = change(SMALL, {"network.outputs": outputs})
    made = make_targets(settings, faces([3]), votes({3: 10}), None)
    assert tuple(made.probabilities) == tuple(made.weights) == outputs


def test_consensus_needs_votes() -> None:
    with pytest.raises(UserError, match="give --votes"):
        make_targets(SMALL, faces([3]), None, None)
    alone = change(SMALL, {"network.outputs": ("fer2013",)})
    assert make_targets(alone, faces([3]), None, None).probabilities["fer2013"].shape == (1, 7)
