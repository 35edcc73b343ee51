"""Logit adjustment for rare emotions."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from trainer.__main__ import main
from trainer.settings import Adjustment
from trainer.training_data import NEVER, Targets, logit_offsets


def targets(counts: list[int], weight: float = 1.0) -> Targets:
    """Targets of one output, with this many pictures of each emotion."""
    wanted = np.repeat(np.eye(7, dtype=np.float32), counts, axis=0)
    return Targets({"fer2013": wanted}, {"fer2013": np.full(len(wanted), weight, np.float32)})


def test_emotion_ten_times_as_rare_is_raised_by_its_share_of_log_10() -> None:
    offsets = logit_offsets(Adjustment(fer2013=0.5), targets([99, 9, 99, 99, 99, 99, 99]))["fer2013"]
    assert offsets[1] - offsets[0] == pytest.approx(0.5 * np.log(10))
    assert offsets[2:] == pytest.approx([offsets[0]] * 5)


def test_pictures_of_weight_0_do_not_count_and_absent_emotions_stay_finite() -> None:
    whole = Adjustment(fer2013=1.0)
    weightless = targets([5, 0, 5, 5, 5, 5, 5], weight=0.0)
    assert logit_offsets(whole, weightless)["fer2013"] == pytest.approx([0.0] * 7)
    assert np.isfinite(logit_offsets(whole, targets([5, 0, 0, 0, 0, 0, 0]))["fer2013"]).all()


def test_an_emotion_without_pictures_is_never_the_answer() -> None:
    for strength in (0.0, 1.0):
        found = logit_offsets(Adjustment(fer2013=strength), targets([5, 0, 5, 5, 5, 5, 5]))["fer2013"]
        assert found[1] == NEVER and min(found[:1] + found[2:]) > -1


def test_output_without_adjustment_has_no_offsets() -> None:
    assert logit_offsets(Adjustment(consensus=0.5), targets([1] * 7)) == {}


def test_share_that_the_loss_took_off_is_not_taken_off_again() -> None:
    wanted = targets([99, 9, 99, 99, 99, 99, 99])
    (whole,) = logit_offsets(Adjustment(fer2013=0.5), wanted).values()
    (rest,) = logit_offsets(Adjustment(fer2013=0.5), wanted, balance=1.0).values()
    assert rest == pytest.approx([-offset for offset in whole])


@pytest.mark.long
def test_complete_training_can_be_adjusted_again(
    tiny: Path, votes: Path, settings: Path, tmp_path: Path
) -> None:
    arguments = ["fit", "--data", str(tiny), "--votes", str(votes), "--settings", str(settings)]
    arguments += ["--out", str(tmp_path), "--epochs", "1"]
    assert main(arguments) == 0
    plain = keras.saving.load_model(tmp_path / "emotion.keras", safe_mode=True).get_weights()
    # Nobody's votes are for neutral.
    before = json.loads((tmp_path / "emotion.json").read_text())["offsets"]
    assert before == {"consensus": [0.0] * 6 + [NEVER]}
    assert main([*arguments, "--resume", "--set", "adjustment.consensus=0.5"]) == 0
    card = json.loads((tmp_path / "emotion.json").read_text())
    assert card["settings"]["adjustment"] == {
        "fer2013": 0.0,
        "consensus": 0.5,
        "refit": 0.0,
        "mix": 0.0,
    }
    adjusted = keras.saving.load_model(tmp_path / "emotion.keras", safe_mode=True)
    assert all(np.array_equal(a, b) for a, b in zip(plain, adjusted.get_weights(), strict=True))
    temperature, offsets = card["temperatures"]["consensus"], card["offsets"]["consensus"]
    rescaling = adjusted.get_layer("consensus_temperature")
    assert np.asarray(rescaling.offset) * temperature == pytest.approx(offsets)
