"""`calibrate`: other offsets and temperatures for a complete model."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.common.model_card import read_card
from tests.support import fer_faces as made
from trainer.__main__ import main

CHANGES = (
    "adjustment.consensus=0.5",
    "adjustment.mix=0.2",
    "confidence.degraded=true",
    "confidence.consensus=0.1",
)


def calibrate(model: Path, data: Path, votes: Path, *more: str) -> int:
    return main(["calibrate", str(model), "--data", str(data), "--votes", str(votes), *more])


def test_weights_stay_and_card_says_what_changed(
    taught: Path, tiny: Path, votes: Path, tmp_path: Path
) -> None:
    from trainer.model_file import open_keras_model
    from trainer.networks import unmix_outputs

    for name in ("emotion.keras", "emotion.onnx", "emotion.json"):
        shutil.copy(taught / name, tmp_path)
    model = tmp_path / "emotion.keras"
    before = json.loads((tmp_path / "emotion.json").read_text())
    options = [word for text in CHANGES for word in ("--set", text)]
    assert calibrate(model, tiny, votes, *options, "--others", str(tiny)) == 0
    card = json.loads((tmp_path / "emotion.json").read_text())
    read_card(model.with_suffix(".onnx"))  # it has the sha256 of the new file
    assert card["onnx"]["precision"] == "float32"
    one, two = open_keras_model(taught / "emotion.keras"), open_keras_model(model)
    own, other = (one.get_layer(f"{name}_logits").get_weights()[0] for name in ("consensus", "fer2013"))
    assert two.get_layer("consensus_logits").get_weights()[0] == pytest.approx(
        0.8 * own + 0.2 * other, abs=1e-6
    )
    unmix_outputs(two, card["settings"])
    weights = zip(one.get_weights(), two.get_weights(), strict=True)
    assert all(a == pytest.approx(b, abs=1e-6) for a, b in weights)
    assert card["settings"]["adjustment"]["consensus"] == 0.5
    assert card["offsets"]["consensus"] != before["offsets"].get("consensus")
    assert card["temperatures"]["consensus"] != before["temperatures"]["consensus"]
    assert (
        card["command"] == before["command"]
        and "--set confidence.degraded=true" in card["calibrated"]["command"]
    )
    assert [one["name"] for one in card["others"]] == ["tiny.zip"]
    assert set(card["others"][0]["figures"]) == {"fer2013", "consensus"}


@pytest.mark.long
def test_last_layer_fitted_again_is_all_that_changes_and_stays_fitted(
    taught: Path, tiny: Path, votes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from trainer.model_file import open_keras_model

    for name in ("emotion.keras", "emotion.onnx", "emotion.json"):
        shutil.copy(taught / name, tmp_path)
    model = tmp_path / "emotion.keras"
    assert calibrate(model, tiny, votes, "--set", "adjustment.refit=0.2") == 0
    one, two = open_keras_model(taught / "emotion.keras"), open_keras_model(model)
    changed = {
        layer.name
        for layer, other in zip(one.layers, two.layers, strict=True)
        for old, new in zip(layer.get_weights(), other.get_weights(), strict=True)
        if (old != new).any()
    }
    assert changed == {"consensus_logits"}
    before = two.get_layer("consensus_logits").get_weights()
    assert calibrate(model, tiny, votes, "--set", "adjustment.mix=0.2") == 0
    assert calibrate(model, tiny, votes, "--set", "adjustment.mix=0.0") == 0
    again = open_keras_model(model).get_layer("consensus_logits").get_weights()
    assert all(new == pytest.approx(old, abs=1e-3) for old, new in zip(before, again, strict=True))
    capfd.readouterr()
    assert calibrate(model, tiny, votes, "--set", "adjustment.refit=0.0") == 2
    assert "adjustment.refit: expected more than 0" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ["--set", "fitting.epochs=3"],
            "--set fitting.epochs: expected a key of [adjustment] or [confidence]",
        ),
        (["--set", "confidence.consensus=2"], "confidence.consensus: expected"),
    ],
)
def test_settings_that_need_a_training(
    options: list[str], text: str, taught: Path, tiny: Path, votes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(taught / "emotion.keras", tiny, votes, *options) == 2
    assert text in capfd.readouterr().err


def test_other_pictures_than_those_of_the_training(
    taught: Path, votes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = made.write_zip(tmp_path / "other.zip", made.rows(seed=2))
    assert calibrate(taught / "emotion.keras", other, votes) == 2
    assert "expected the pictures and votes that" in capfd.readouterr().err


def test_model_without_settings(
    two_outputs: Path, tiny: Path, votes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(two_outputs, tiny, votes) == 2
    assert "has no settings; use a model that `python -m trainer fit` wrote" in capfd.readouterr().err
