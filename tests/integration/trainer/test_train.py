"""The parts of a training: learning rate, weight decay, EMA, initial weights."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from pipeline.common.errors import UserError
from tests.support.trainer import ignore_epoch, ignore_step, training_data
from trainer import checkpoint, train
from trainer.__main__ import main, parser
from trainer.model_file import open_model
from trainer.networks import for_training
from trainer.settings import MODELS, Fitting, change, read_settings
from trainer.train import update_ema


def rates(fitting: Fitting, steps: int) -> list[float]:
    """The learning rate at each step of a training of `steps` an epoch."""
    schedule = train.make_optimizer(fitting, steps)._learning_rate
    return [float(schedule(step)) for step in range(steps * fitting.epochs)]


def test_learning_rate_warms_up_and_falls_as_a_cosine() -> None:
    found = rates(Fitting(epochs=5, learning_rate=0.1, warmup_steps=10), 20)
    assert found[:11] == pytest.approx(np.linspace(0, 0.1, 11))
    assert found[55] == pytest.approx(0.05, abs=1e-3)  # halfway between step 10 and 100
    assert found[-1] < 1e-4 and sorted(found[10:], reverse=True) == found[10:]


def test_warmup_takes_at_most_half() -> None:
    assert max(rates(Fitting(epochs=1, learning_rate=0.1, warmup_steps=300), 20)) == pytest.approx(0.1)


def test_weight_decay_acts_as_l2_penalty_and_exempts_norms_and_biases() -> None:
    """With momentum m a penalty acts 1 / (1 - m) times as strongly as the same decay outside the gradient."""
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    optimizer = train.make_optimizer(
        Fitting(learning_rate=0.5, schedule="constant", weight_decay=0.01), steps=1
    )
    for weight in network.trainable_weights:
        weight.assign(weight + 1)  # a weight of 0 would not show decay
    before = [np.array(weight) for weight in network.trainable_weights]
    optimizer.build(network.trainable_weights)
    optimizer.apply([np.zeros_like(weight) for weight in before])
    kernel, *others = (np.array(weight) for weight in network.trainable_weights)
    assert kernel == pytest.approx(before[0] * (1 - 0.5 * 0.01 / (1 - 0.9)), rel=1e-5)
    for weight, same in zip(others, before[1:], strict=True):
        assert np.array_equal(weight, same)


def test_ema_moves_by_its_share() -> None:
    settings = change(read_settings(MODELS / "small.toml"), {"network.stages": [[4]], "network.stem": 2})
    one, other = for_training(settings), for_training(change(settings, {"seed": 1}))
    before = [np.array(weight) for weight in one.weights]
    update_ema(one, other, 0.75)
    for weight, old, aim in zip(one.weights, before, other.weights, strict=True):
        assert np.array(weight) == pytest.approx(0.75 * old + 0.25 * np.array(aim), abs=1e-6)


def test_training_starts_with_the_weights_of_a_model(
    taught: Path, tiny: Path, votes: Path, settings: Path, tmp_path: Path
) -> None:
    path = taught / "emotion.keras"
    changed = change(read_settings(settings), {"fitting.learning_rate": 1e-9, "fitting.epochs": 1})
    changed = change(changed, {"fitting.weight_decay": 0.0, "fitting.warmup_steps": 0})
    model, _ = train.build(changed, 3)
    train.copy_weights(model, path, changed)
    for weight, expected in zip(model.get_weights(), open_model(path).get_weights(), strict=True):
        assert np.array_equal(weight, expected)
    train.fit(changed, training_data(changed, tiny, votes), tmp_path, False, ignore_step, ignore_epoch, path)
    model = for_training(changed)
    checkpoint.read_weights(model, tmp_path / "kept-0001.weights.h5")
    for weight, expected in zip(model.trainable_weights, open_model(path).trainable_weights, strict=True):
        assert np.array(weight) == pytest.approx(np.array(expected), abs=1e-5)
    with pytest.raises(UserError, match="expected a model of the network that is trained"):
        train.copy_weights(train.build(change(changed, {"network.stem": 6}), 3)[0], path, changed)


def test_the_output_that_the_data_has_is_taken_of_a_model_with_two(
    taught: Path, tiny: Path, settings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without votes only fer2013 is trained, which a model of both outputs can begin."""
    path = taught / "emotion.keras"
    whole = open_model(path)
    for name in ("fer2013", "consensus"):
        alone = change(read_settings(settings), {"network.outputs": (name,)})
        model, _ = train.build(alone, 3)
        train.copy_weights(model, path, alone)
        for layer in model.layers:
            if layer.name.endswith("_logits"):
                assert layer.name == f"{name}_logits"
                expected = whole.get_layer(layer.name).get_weights()
                assert all(map(np.array_equal, layer.get_weights(), expected))
    arguments = ["fit", "--data", str(tiny), "--settings", str(settings), "--epochs", "1"]
    assert main([*arguments, "--out", str(tmp_path / "one"), "--start", str(path)]) == 0
    one = tmp_path / "one" / "emotion.keras"
    both = read_settings(settings)
    with pytest.raises(UserError, match=r"found fer2013; choose another --start, or --outputs fer2013$"):
        train.copy_weights(train.build(both, 3)[0], one, both)


def test_folds_refuse_start_and_teachers(
    taught: Path, tiny: Path, votes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, data = str(taught / "emotion.keras"), ["--data", str(tiny), "--votes", str(votes)]
    for command in (["fit", "--start", model], ["distill", "--teachers", model]):
        assert main([*command, *data, "--out", str(tmp_path), "--folds", "2"]) == 2
        assert "found --teachers or --start; leave one out" in capfd.readouterr().err


def test_command_in_the_card_repeats_the_training(taught: Path, settings: Path, tiny: Path) -> None:
    card = json.loads((taught / "emotion.json").read_text())
    again = parser().parse_args(card["command"].split()[3:])
    assert (again.command, again.settings, again.data, again.out) == ("fit", settings, tiny, taught)
    assert again.seed is None and card["seed"] == 0, "the default"


def test_checkpoint_of_other_votes_is_refused(
    taught: Path, tiny: Path, votes: Path, settings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Those of validation as well: they choose epochs and temperatures."""
    other = Path(shutil.copy(votes, tmp_path / "other.csv"))
    lines = other.read_text().splitlines()
    last = lines[-1].split(",")
    other.write_text("\n".join([*lines[:-1], ",".join([*last[:2], "1", *last[3:]]), ""]))
    arguments = ["fit", "--data", str(tiny), "--settings", str(settings), "--out", str(taught), "--resume"]
    assert main([*arguments, "--votes", str(other)]) == 2
    assert "faces_sha256" in capfd.readouterr().err
