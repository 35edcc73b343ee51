"""What goes wrong in a training is reported in one line, before it starts where possible."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.common.files import sha256
from tests.support import fer_faces as made
from tests.support.untrained import write_votes
from trainer import checkpoint, train
from trainer.__main__ import main
from trainer.networks import for_training
from trainer.settings import read_settings

Fit = Callable[..., int]


@pytest.fixture
def fit(tiny: Path, votes: Path, settings: Path, tmp_path: Path) -> Fit:
    """One epoch into `tmp_path`/out, with more options; returns the exit status."""

    def run(*more: str, command: str = "fit", data: Path = tiny, people: Path = votes) -> int:
        given = ["--data", str(data), "--votes", str(people), "--settings", str(settings)]
        return main([command, *given, "--out", str(tmp_path / "out"), "--epochs", "1", *more])

    return run


def error_line(capfd: pytest.CaptureFixture[str]) -> str:
    error = capfd.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


@pytest.mark.long
def test_full_disk(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
        assert fit() == 2
    error = error_line(capfd)
    assert "last-0001.weights.h5: expected" in error and "MB free" in error
    assert not list((tmp_path / "out").glob("*.h5"))
    assert fit() == 0


def test_free_space_needed_is_at_least_the_size_of_a_checkpoint(
    taught: Path, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With less, the disk would still fill up."""
    model, _ = train.build(read_settings(settings), 1)
    size = (taught / "last-0003.weights.h5").stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size))
    with pytest.raises(UserError, match="MB free"):
        checkpoint.write_weights(model, tmp_path / "last-0001.weights.h5")


def test_votes_without_validation(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    few = write_votes(tmp_path / "few.csv", [row for row in made.rows() if row.usage == "Training"])
    with monkeypatch.context() as patched:
        patched.setattr(train, "run_epoch", None)  # refused before it
        assert fit(people=few) == 2
    assert "found none of validation in --votes" in error_line(capfd)
    assert fit("--outputs", "fer2013", people=few) == 0
    assert list(json.loads((tmp_path / "out" / "emotion.json").read_text())["figures"]) == ["fer2013"]


def test_too_few_votes_to_train_with(fit: Fit, capfd: pytest.CaptureFixture[str]) -> None:
    assert fit("--set", "fitting.fewest_votes=11") == 2
    assert "pictures that have 11 votes or more for the seven emotions, found none" in error_line(capfd)


@pytest.mark.parametrize("name", ["my settings", "größe", "1+2"])
def test_settings_may_have_any_name(name: str, settings: Path, tmp_path: Path) -> None:
    changed = read_settings(Path(shutil.copy(settings, tmp_path / f"{name}.toml")))
    assert changed.name == name
    assert for_training(changed)(np.zeros((1, 32, 32, 1), np.uint8))["fer2013"].shape == (1, 7)


def test_diverged_training(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def validate(*given: Any) -> dict[str, float | None]:
        return dict.fromkeys(real(*given), math.nan)

    real = train.validate
    monkeypatch.setattr(train, "validate", validate)
    assert fit() == 2
    assert "epoch 1: training has diverged: validation_loss is nan" in error_line(capfd)
    assert not (tmp_path / "out" / "checkpoint.json").exists()


def test_teachers_need_a_share_and_a_share_needs_teachers(
    fit: Fit, taught: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    teachers = ["--teachers", str(taught / "emotion.keras")]
    for share in (["--teacher-share", "0"], ["--set", "fitting.teacher_share=0.0"]):
        assert fit(*teachers, *share, command="distill") == 2
        assert "fitting.teacher_share: expected more than 0, found 0.0" in error_line(capfd)
    assert fit("--set", "fitting.teacher_share=0.3") == 2
    assert "expected 0 without teachers (distill --teachers), found 0.3" in error_line(capfd)


@pytest.mark.long
def test_card_has_hashes_of_data_that_was_removed_during_training(
    fit: Fit, tiny: Path, votes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, people = Path(shutil.copy(tiny, tmp_path)), Path(shutil.copy(votes, tmp_path))
    real = train.run_epoch

    def run_epoch(*given: Any) -> Any:
        data.unlink()
        people.unlink()
        return real(*given)

    monkeypatch.setattr(train, "run_epoch", run_epoch)
    assert fit(data=data, people=people) == 0
    card = json.loads((tmp_path / "out" / "emotion.json").read_text())
    assert card["data"]["sha256"] == hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert card["data"]["votes"]["sha256"] == hashlib.sha256(votes.read_bytes()).hexdigest()


def test_sha256_of_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        sha256(tmp_path)


@pytest.mark.parametrize(
    "error", [RuntimeError("bad symbol table node signature"), TypeError("x"), OSError()]
)
def test_any_error_of_hdf5_is_damaged_weights(error: Exception, tmp_path: Path) -> None:
    def load_weights(_: Path) -> None:
        raise error

    with pytest.raises(UserError, match="expected a whole checkpoint"):
        checkpoint.read_weights(SimpleNamespace(load_weights=load_weights), tmp_path / "last-0001.weights.h5")
