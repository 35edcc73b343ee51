"""What is added for rare emotions."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from trainer.__main__ import main
from trainer.fitting.training_data import Targets, find_offsets
from trainer.settings import Adjustment


def targets(counts: list[int], weight: float = 1.0) -> Targets:
    """Of one output, which teaches each emotion this many times."""
    wanted = np.repeat(np.eye(7, dtype=np.float32), counts, axis=0)
    return Targets({"fer2013": wanted}, {"fer2013": np.full(len(wanted), weight, np.float32)})


def test_an_emotion_ten_times_as_rare_is_raised_by_its_share_of_the_logarithm_of_ten() -> None:
    offsets = find_offsets(Adjustment(fer2013=0.5), targets([99, 9, 99, 99, 99, 99, 99]))["fer2013"]
    assert offsets[1] - offsets[0] == pytest.approx(0.5 * np.log(10))
    assert offsets[2:] == pytest.approx([offsets[0]] * 5)


def test_what_weighs_nothing_counts_for_nothing_and_an_emotion_without_pictures_stays_finite() -> None:
    whole = Adjustment(fer2013=1.0)
    weightless = targets([5, 0, 5, 5, 5, 5, 5], weight=0.0)
    assert find_offsets(whole, weightless)["fer2013"] == pytest.approx([0.0] * 7)
    assert np.isfinite(find_offsets(whole, targets([5, 0, 0, 0, 0, 0, 0]))["fer2013"]).all()


def test_an_output_that_is_not_adjusted_has_none() -> None:
    assert find_offsets(Adjustment(consensus=0.5), targets([1] * 7)) == {}


@pytest.mark.long
def test_a_complete_training_may_be_adjusted_anew(
    tiny: Path, votes: Path, settings: Path, tmp_path: Path
) -> None:
    arguments = ["fit", "--data", str(tiny), "--votes", str(votes), "--settings", str(settings)]
    arguments += ["--out", str(tmp_path), "--epochs", "1"]
    assert main(arguments) == 0
    plain = keras.saving.load_model(tmp_path / "emotion.keras", safe_mode=True).get_weights()
    assert json.loads((tmp_path / "emotion.json").read_text())["offsets"] == {}
    assert main([*arguments, "--resume", "--set", "adjustment.consensus=0.5"]) == 0
    card = json.loads((tmp_path / "emotion.json").read_text())
    assert card["settings"]["adjustment"] == {"fer2013": 0.0, "consensus": 0.5}
    adjusted = keras.saving.load_model(tmp_path / "emotion.keras", safe_mode=True)
    assert all(np.array_equal(a, b) for a, b in zip(plain, adjusted.get_weights(), strict=True))
    temperature, offsets = card["temperatures"]["consensus"], card["offsets"]["consensus"]
    rescaling = adjusted.get_layer("consensus_temperature")
    assert np.asarray(rescaling.offset) * temperature == pytest.approx(offsets)
