"""Training end to end on tiny data: what it writes, that it learns, that it resumes."""

import csv
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import pytest

from pipeline.common.labels import EMOTIONS
from tests.support import fer_faces as made
from tests.support.trainer import fit_arguments, ignore_epoch, ignore_step, training_data
from trainer import checkpoint, train
from trainer.__main__ import main
from trainer.checkpoint import Epoch, Progress
from trainer.dataset import Dataset, Faces, load
from trainer.pictures import Part
from trainer.settings import MODELS, Settings, change, read_settings, to_json
from trainer.training_data import TrainingData, make_training_data


class KilledError(Exception):
    """Stands for a kill between two steps."""


def test_fit_writes_model_card_history_and_plots(trained: Path, tiny: Path) -> None:
    card = json.loads((trained / "emotion.json").read_text())
    model = trained / "emotion.keras"
    expected = {
        "format": 1,
        "file": "emotion.keras",
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "labels": list(EMOTIONS),
        "input": {"shape": [48, 48, 1], "dtype": "uint8"},
        "outputs": ["fer2013"],
        "name": "baseline",
        "parameters": 555_623,
        "multiply_adds": 45_333_120,
        "seed": 0,
    }
    assert {key: card[key] for key in expected} == expected
    command = f"python -m trainer fit --data {tiny} --out {trained} --model baseline --epochs 2 --batch 10"
    assert card["command"] == command
    assert card["data"]["sha256"] == hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert card["data"]["votes"] is None
    parts = {part: (value["pictures"], value["prefixes"]) for part, value in card["data"]["parts"].items()}
    assert parts == {"train": (28, ["Training"]), "validation": (14, ["PublicTest"]), "test": (0, [])}
    assert card["settings"]["fitting"]["learning_rate"] == 0.001
    assert any("decisions about people" in limit for limit in card["limits"])
    packages = {"keras", keras.backend.backend(), "onnx", "numpy", "scipy", "opencv-python"}
    assert set(card["versions"]) == {"python", *packages}
    for picture in ("curves.png", "confusion.png"):
        assert (trained / picture).read_bytes().startswith(b"\x89PNG")
    assert not list(trained.glob(".unfinished-*"))


def test_history_has_a_row_per_epoch_and_the_card_the_best(trained: Path) -> None:
    with (trained / "history.csv").open(newline="") as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history] == ["1", "2"]
    card = json.loads((trained / "emotion.json").read_text())
    best = max(history, key=lambda row: float(row["validation_top1"]))
    assert card["chosen"]["epoch"] == int(best["epoch"])
    assert card["figures"]["fer2013"]["top1"] == pytest.approx(float(best["validation_top1"]))


def test_model_is_saved_for_inference_only(trained: Path) -> None:
    model = keras.saving.load_model(trained / "emotion.keras", safe_mode=True)
    assert not model.compiled
    assert (trained / "emotion.keras").stat().st_size < 2_500_000


def test_each_output_has_its_figures_and_temperature(taught: Path, votes: Path) -> None:
    card = json.loads((taught / "emotion.json").read_text())
    assert card["outputs"] == ["fer2013", "consensus"]
    assert set(card["figures"]) == set(card["temperatures"]) == {"fer2013", "consensus"}
    assert card["figures"]["consensus"]["output"] == "consensus"
    assert card["data"]["votes"]["sha256"] == hashlib.sha256(votes.read_bytes()).hexdigest()
    assert f"--votes {votes}" in card["command"] and "--model" not in card["command"]
    assert card["chosen"]["epoch"] == 3  # the last: nothing was changed
    model = keras.saving.load_model(taught / "emotion.keras", safe_mode=True)
    for name, temperature in card["temperatures"].items():
        assert model.get_layer(f"{name}_temperature").scale == pytest.approx(1 / temperature)


def baseline(**fitting: Any) -> Settings:
    changes = {f"fitting.{key}": value for key, value in fitting.items()}
    return change(read_settings(MODELS / "baseline.toml"), {"fitting.batch": 10, **changes})


def test_training_learns(tiny: Path, tmp_path: Path) -> None:
    # Faces that don't move: in a second nothing else is learned.
    changed = change(baseline(epochs=8, batch=14), {"seed": 1, "augmentation": {}})
    progress = train.fit(changed, training_data(changed, tiny), tmp_path, False, ignore_step, ignore_epoch)
    assert progress.history[-1].loss < 0.5 * progress.history[0].loss
    assert progress.history[-1].top1 > 0.6


def test_each_output_learns_its_own_labels(settings: Path, tmp_path: Path) -> None:
    """Faces as bright as their label says, and votes for the next emotion."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(7), 12)
    pixels = (20 + 30 * labels[:, None] + rng.integers(0, 8, (84, 48 * 48))).astype(np.uint8)
    faces = Faces(pixels.reshape(84, 48, 48, 1), labels, tuple(map(str, range(84))))
    votes = np.zeros((84, 10), np.uint8)
    votes[np.arange(84), (labels + 1) % 7] = 10
    changed = change(
        read_settings(settings),
        {
            "fitting.epochs": 20,
            "fitting.sizes": [[0.0, 48]],
            "fitting.learning_rate": 0.1,
            "augmentation": {},
        },
    )
    parts: dict[Part, Faces] = {"train": faces, "validation": faces, "test": faces}
    data = make_training_data(
        changed, Dataset(Path("faces"), None, parts, dict.fromkeys(parts, votes), None, None)
    )
    last = train.fit(changed, data, tmp_path, False, ignore_step, ignore_epoch).history[-1]
    assert last.validation_top1 is not None and last.validation_top1 > 0.6
    assert last.validation_consensus_top1 is not None and last.validation_consensus_top1 > 0.6


def kill_in_step(number: int) -> Any:
    """A callback that raises at the `number`th step of the training."""
    steps: Iterator[int] = iter(range(1, 10_000))

    def on_step(done: int, of: int) -> None:
        if next(steps) == number:
            raise KilledError

    return on_step


def weights_in(folder: Path, settings: Settings, data: TrainingData) -> list[Any]:
    """All that a complete training left: weights, optimizer's state, EMA."""
    model, ema_model = train.build(settings, train.steps_per_epoch(settings.fitting, data))
    checkpoint.restore(folder, {**to_json(settings), "faces_sha256": data.sha256}, model, ema_model)
    variables = [*model.variables, *model.optimizer.variables, *ema_model.variables]
    return [np.asarray(variable) for variable in variables if "seed_generator" not in variable.path]


def test_resumed_equals_uninterrupted(
    taught: Path, tiny: Path, votes: Path, settings: Path, tmp_path: Path
) -> None:
    changed = read_settings(settings)
    data = training_data(changed, tiny, votes)
    # Three steps an epoch: the fifth is within the second epoch, which is to be done again from its start.
    with pytest.raises(KilledError):
        train.fit(changed, data, tmp_path, False, kill_in_step(5), ignore_epoch)
    assert (tmp_path / "last-0001.weights.h5").exists()
    seen: list[int] = []
    progress = train.fit(changed, data, tmp_path, True, ignore_step, lambda p: seen.append(p.epochs_done))
    assert seen == [1, 2, 3]
    whole = msgspec.json.decode((taught / "checkpoint.json").read_bytes(), type=Progress)
    for resumed, uninterrupted in zip(progress.history, whole.history, strict=True):
        assert numbers(resumed) == pytest.approx(numbers(uninterrupted), rel=1e-3)
    for found, expected in zip(
        weights_in(tmp_path, changed, data), weights_in(taught, changed, data), strict=True
    ):
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)


def numbers(epoch: Epoch) -> tuple[float | None, ...]:
    return (epoch.loss, epoch.top1, epoch.validation_loss, epoch.validation_consensus_loss)


def test_resuming_a_complete_training_only_rewrites_its_artifacts(trained: Path, tiny: Path) -> None:
    before = (trained / "checkpoint.json").read_bytes()
    (trained / "emotion.keras").unlink()
    (trained / ".unfinished-last-0002.weights.h5").write_text("left by a kill")
    assert main(fit_arguments(tiny, trained, "--resume")) == 0
    assert (trained / "checkpoint.json").read_bytes() == before
    assert (trained / "emotion.keras").exists()
    assert not list(trained.glob(".unfinished-*"))


def test_checkpoint_is_not_overwritten_without_resume(
    trained: Path, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(fit_arguments(tiny, trained)) == 2
    assert "add --resume" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "key"), [("--seed", "9", "seed"), ("--batch", "11", "fitting.batch")]
)
def test_checkpoint_of_other_settings_is_refused(
    option: str, value: str, key: str, trained: Path, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(fit_arguments(tiny, trained, "--resume", option, value)) == 2
    error = capfd.readouterr().err
    assert f"expected a checkpoint with {key} {value}, found" in error
    assert error.count("\n") == 1


def test_interrupted_training_says_how_to_continue(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> Epoch:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run_epoch", interrupt)
    assert main(fit_arguments(tiny, tmp_path)) == 130
    text = capfd.readouterr()
    assert "--resume" in text.out
    assert text.err == "interrupted\n"


def test_constant_rate_allows_more_epochs_but_not_fewer(
    trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "longer"))
    assert main(fit_arguments(tiny, out, "--resume", "--epochs", "3")) == 0
    history = (out / "history.csv").read_text().splitlines()
    assert history[:3] == (trained / "history.csv").read_text().splitlines()
    assert len(history) == 4
    card = json.loads((out / "emotion.json").read_text())
    assert card["settings"]["fitting"]["epochs"] == 3
    assert card["command"].endswith("--epochs 3"), "without --resume"
    assert main(fit_arguments(tiny, out, "--resume")) == 2
    assert "expected at most 2 epochs done, found 3" in capfd.readouterr().err


def test_cosine_rate_refuses_more_epochs(
    taught: Path, tiny: Path, votes: Path, settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", "--data", str(tiny), "--votes", str(votes), "--settings", str(settings)]
    assert main([*arguments, "--out", str(taught), "--resume", "--epochs", "4"]) == 2
    assert "expected a checkpoint with fitting.epochs 4, found 3" in capfd.readouterr().err


def test_checkpoint_of_other_faces_is_refused(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = made.write_zip(tmp_path / "other.zip", made.rows(seed=2))
    assert main(fit_arguments(other, trained, "--resume")) == 2
    assert "faces_sha256" in capfd.readouterr().err


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"settings": {}}', '{"settings": {}, "history": []}', '{"settings": [1], "history": []}'],
)
def test_damaged_checkpoint_is_refused(
    content: str, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoint.json").write_text(content)
    assert main(fit_arguments(tiny, tmp_path, "--resume")) == 2
    error = capfd.readouterr().err
    assert "checkpoint.json: expected a whole checkpoint" in error
    assert error.count("\n") == 1


def test_damaged_weights_are_refused(
    trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "damaged"))
    file = out / "last-0002.weights.h5"
    file.write_bytes(file.read_bytes()[:1000])
    assert main(fit_arguments(tiny, out, "--resume")) == 2
    assert "last-0002.weights.h5: expected a whole checkpoint" in capfd.readouterr().err


def test_out_that_cannot_be_created(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    assert main(fit_arguments(tiny, tmp_path / "file" / "out")) == 2
    assert "cannot be created" in capfd.readouterr().err


def test_without_votes_only_fer2013_is_trained(
    tiny: Path, settings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", "--data", str(tiny), "--settings", str(settings), "--out", str(tmp_path)]
    assert main([*arguments, "--outputs", "consensus"]) == 2
    assert "give --votes" in capfd.readouterr().err
    assert main([*arguments, "--epochs", "1"]) == 0
    assert "no --votes: the output consensus is left out" in capfd.readouterr().out
    card = json.loads((tmp_path / "emotion.json").read_text())
    assert card["outputs"] == list(card["figures"]) == ["fer2013"]


def test_consensus_alone(tiny: Path, votes: Path, settings: Path, tmp_path: Path) -> None:
    arguments = ["fit", "--data", str(tiny), "--votes", str(votes), "--settings", str(settings)]
    assert main([*arguments, "--out", str(tmp_path), "--outputs", "consensus", "--epochs", "1"]) == 0
    card = json.loads((tmp_path / "emotion.json").read_text())
    assert card["outputs"] == ["consensus"]


def test_blank_pictures_are_left_out(tmp_path: Path) -> None:
    rows = made.rows()
    rows[0].face[:] = 17
    path = made.write_zip(tmp_path / "one_grey.zip", rows)
    data = training_data(baseline(), path)
    assert len(data.train) == 27 and rows[0].name not in data.train.names
    assert len(load(path)["train"]) == 28
