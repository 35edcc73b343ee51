"""Training end to end on tiny data: what it writes, that it learns, that it resumes."""

import csv
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pipeline.emotions import EMOTIONS
from tests.trainer import faces as made
from trainer import augment, checkpoint, train
from trainer.__main__ import main
from trainer.data import load_for_training
from trainer.history import Epoch, Progress


class KilledError(Exception):
    """Stands for a kill between two steps."""


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    return ["fit", "--data", str(data), "--out", str(out), "--epochs", "2", "--batch", "10", *more]


def test_fit_writes_model_card_history_and_plots(trained: Path, tiny: Path) -> None:
    card = json.loads((trained / "emotion.json").read_text())
    model = trained / "emotion.keras"
    expected = {
        "format": 1,
        "file": "emotion.keras",
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "labels": list(EMOTIONS),
        "input": {"shape": [48, 48, 1], "dtype": "uint8"},
        "name": "baseline",
        "parameters": 555_623,
        "multiply_adds": 45_333_120,
        "seed": 0,
    }
    assert {key: card[key] for key in expected} == expected
    command = (
        f"python -m trainer fit --data {tiny} --out {trained} --model baseline --epochs 2 --batch 10 --seed 0"
    )
    assert card["command"] == command
    assert card["data"]["sha256"] == hashlib.sha256(tiny.read_bytes()).hexdigest()
    parts = {part: (value["pictures"], value["prefixes"]) for part, value in card["data"]["parts"].items()}
    assert parts == {"train": (28, ["Training"]), "validation": (14, ["PublicTest"]), "test": (0, [])}
    assert card["settings"]["learning_rate"] == 0.001
    assert set(card["versions"]) == {"python", "keras", keras.backend.backend(), "numpy"}
    for picture in ("curves.png", "confusion.png"):
        assert (trained / picture).read_bytes().startswith(b"\x89PNG")
    assert not list(trained.glob(".unfinished-*"))


def test_history_has_a_row_an_epoch_and_the_card_the_best_of_them(trained: Path) -> None:
    with (trained / "history.csv").open(newline="") as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history] == ["1", "2"]
    card = json.loads((trained / "emotion.json").read_text())
    best = max(history, key=lambda row: float(row["validation_top1"]))
    assert card["chosen"]["epoch"] == int(best["epoch"])
    assert card["figures"]["fer2013"]["top1"] == pytest.approx(float(best["validation_top1"]))


def test_the_shipped_model_is_for_inference_alone(trained: Path) -> None:
    model = keras.saving.load_model(trained / "emotion.keras", safe_mode=True)
    assert not model.compiled
    assert type(model.layers[0]).__name__ == "Rescaling"
    assert (trained / "emotion.keras").stat().st_size < 2_500_000


def test_it_learns(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Faces that don't move: in a second nothing else is learned.
    monkeypatch.setattr(augment, "augment", lambda pixels, rng: pixels)
    settings = train.Settings(epochs=8, batch=14, seed=1)
    progress = train.fit(settings, load_for_training(tiny), tmp_path, False, lambda done, steps: None, ignore)
    assert progress.history[-1].loss < 0.5 * progress.history[0].loss
    assert progress.history[-1].top1 > 0.6


def ignore(progress: Progress) -> None:
    pass


def kill_in_step(number: int) -> Any:
    """A callback that raises at the `number`th step of the training."""
    steps: Iterator[int] = iter(range(1, 10_000))

    def on_step(done: int, of: int) -> None:
        if next(steps) == number:
            raise KilledError

    return on_step


def test_resumed_is_the_same_as_uninterrupted(trained: Path, tiny: Path, tmp_path: Path) -> None:
    parts = load_for_training(tiny)
    settings = train.Settings(epochs=2, batch=10)
    # Three steps an epoch: the fifth is within the second epoch, which is to be done again from its start.
    with pytest.raises(KilledError):
        train.fit(settings, parts, tmp_path, False, kill_in_step(5), ignore)
    assert (tmp_path / "last-0001.keras").exists()
    seen: list[int] = []
    progress = train.fit(
        settings, parts, tmp_path, True, lambda done, of: None, lambda p: seen.append(p.epochs_done)
    )
    assert seen == [1, 2]
    whole, _ = state(trained, settings, tiny)
    for resumed, uninterrupted in zip(progress.history, whole.history, strict=True):
        assert numbers(resumed) == pytest.approx(numbers(uninterrupted), rel=1e-3)
    networks = [state(out, settings, tiny)[1] for out in (tmp_path, trained)]
    for weights, others in zip(*(network.get_weights() for network in networks), strict=True):
        assert np.allclose(weights, others, rtol=1e-4, atol=1e-5)
    iterations = [int(network.optimizer.iterations.numpy()) for network in networks]
    assert iterations == [6, 6]


def state(out: Path, settings: train.Settings, data: Path) -> tuple[Progress, Any]:
    found = checkpoint.restore(out, train.all_settings(settings, load_for_training(data)))
    assert found is not None
    return found


def numbers(epoch: Epoch) -> tuple[float, ...]:
    return (epoch.loss, epoch.top1, epoch.validation_loss, epoch.validation_top1)


def test_a_complete_training_resumed_only_writes_its_product_anew(trained: Path, tiny: Path) -> None:
    before = (trained / "checkpoint.json").read_bytes()
    (trained / "emotion.keras").unlink()
    (trained / ".unfinished-last-0002.keras").write_text("left by a kill")
    assert main(arguments(tiny, trained, "--resume")) == 0
    assert (trained / "checkpoint.json").read_bytes() == before
    assert (trained / "emotion.keras").exists()
    assert not list(trained.glob(".unfinished-*"))


def test_a_checkpoint_is_not_overwritten_unasked(
    trained: Path, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny, trained)) == 2
    assert "add --resume" in capfd.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--seed", "9"), ("--batch", "11")])
def test_a_checkpoint_of_other_settings_is_refused(
    option: str, value: str, trained: Path, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny, trained, "--resume", option, value)) == 2
    error = capfd.readouterr().err
    assert f"expected a checkpoint with {option[2:]} {value}, found" in error
    assert error.count("\n") == 1


def test_an_interrupted_training_says_how_to_go_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> Epoch:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run_epoch", interrupt)
    assert main(arguments(tiny, tmp_path)) == 130
    text = capfd.readouterr()
    assert "--resume" in text.out
    assert text.err == "interrupted\n"


def test_more_epochs_go_on_and_fewer_are_refused(
    trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "longer"))
    assert main(arguments(tiny, out, "--resume", "--epochs", "3")) == 0
    history = (out / "history.csv").read_text().splitlines()
    assert history[:3] == (trained / "history.csv").read_text().splitlines()
    assert len(history) == 4
    card = json.loads((out / "emotion.json").read_text())
    assert card["settings"]["epochs"] == 3
    assert "--epochs 3" in card["command"]
    assert main(arguments(tiny, out, "--resume")) == 2
    assert "expected at most 2 epochs done, found 3" in capfd.readouterr().err


def test_a_checkpoint_of_other_faces_is_refused(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = made.write_zip(tmp_path / "other.zip", made.rows(seed=2))
    assert main(arguments(other, trained, "--resume")) == 2
    assert "faces_sha256" in capfd.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", '{"settings": {}}', '{"settings": {}, "history": []}'])
def test_a_damaged_checkpoint_is_told(
    content: str, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoint.json").write_text(content)
    assert main(arguments(tiny, tmp_path, "--resume")) == 2
    error = capfd.readouterr().err
    assert "checkpoint.json: expected a whole checkpoint" in error
    assert error.count("\n") == 1


def test_an_out_that_cannot_be_made(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    assert main(arguments(tiny, tmp_path / "file" / "out")) == 2
    assert "cannot be made a folder" in capfd.readouterr().err
