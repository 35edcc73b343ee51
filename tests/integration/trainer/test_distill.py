"""Teachers, several seeds, and folds."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from pipeline.common.files import sha256
from tests.support import fer_faces as made
from tests.support.untrained import write_votes
from trainer.__main__ import main
from trainer.dataset import folds, read_dataset
from trainer.fit import read_ancestors
from trainer.model_file import open_model, predict
from trainer.settings import read_settings
from trainer.training_data import predict_teachers, uncalibrated

MADE_BY = ("sha256", "command", "settings", "versions", "data")


def arguments(command: str, tiny: Path, votes: Path, settings: Path, out: Path, *more: str) -> list[str]:
    given = ["--data", str(tiny), "--votes", str(votes), "--settings", str(settings), "--out", str(out)]
    return [command, *given, "--epochs", "1", *more]


def test_card_names_the_teachers(
    taught: Path, tiny: Path, votes: Path, settings: Path, tmp_path: Path
) -> None:
    teacher = taught / "emotion.keras"
    more = ["--teachers", str(teacher), str(teacher), "--teacher-share", "0.25"]
    assert main(arguments("distill", tiny, votes, settings, tmp_path, *more)) == 0
    card = json.loads((tmp_path / "emotion.json").read_text())
    old = json.loads((taught / "emotion.json").read_text())
    assert card["settings"]["teachers"] == [old["sha256"]] * 2
    whence = {"role": "teacher", "ancestors": [], **{key: old[key] for key in MADE_BY}}
    assert card["ancestors"] == [whence, whence] and old["command"].startswith("python -m trainer fit ")
    assert card["settings"]["fitting"]["teacher_share"] == 0.25
    assert card["command"].startswith("python -m trainer distill ")
    assert f"--teachers {teacher} {teacher} --teacher-share 0.25" in card["command"]


def test_an_onnx_teacher_has_the_sha256_of_its_own_file(taught: Path, settings: Path) -> None:
    teachers = [taught / "emotion.keras", taught / "emotion.onnx"]
    args = argparse.Namespace(folds=None, start=None, teachers=teachers)
    found = [one["sha256"] for one in read_ancestors(args, read_settings(settings))]
    assert found == [sha256(path) for path in teachers] and found[0] != found[1]


@pytest.mark.parametrize("file", ["emotion.keras", "emotion.onnx"])
def test_teachers_are_averaged_over_mirror_images_without_temperature(taught: Path, file: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)
    plain = predict(open_model(taught / "emotion.keras"), pixels)
    temperatures = json.loads((taught / "emotion.json").read_text())["temperatures"]
    path = taught / file
    found_probs = predict_teachers([path, path], ["consensus"], pixels)
    assert list(found_probs) == ["consensus"] and found_probs["consensus"].dtype == np.float32
    mirrored = predict(open_model(path), pixels[:, :, ::-1])
    expected = np.zeros((4, 7))
    for found in (plain["consensus"], mirrored["consensus"]):
        raised = found.astype(float) ** temperatures["consensus"]
        expected += raised / raised.sum(axis=1, keepdims=True) / 2
    assert found_probs["consensus"] == pytest.approx(expected, abs=1e-5)


def test_temperature_and_offsets_are_removed() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (5, 7))
    offsets = [0.0, 1.0, -1.0, 0.5, 0.0, 0.0, 2.0]
    shipped = softmax((logits + offsets) / 0.5, axis=1).astype(np.float32)
    card = {"temperatures": {"fer2013": 0.5}, "offsets": {"fer2013": offsets}}
    assert uncalibrated(shipped, card, "fer2013") == pytest.approx(softmax(logits, axis=1), abs=1e-5)


def test_card_without_temperature_and_offsets() -> None:
    probabilities = softmax(np.random.default_rng(0).normal(0, 2, (5, 7)), axis=1).astype(np.float32)
    assert uncalibrated(probabilities, {}, "fer2013") == pytest.approx(probabilities, abs=1e-6)


def test_teacher_without_an_output_is_refused(
    trained: Path, tiny: Path, votes: Path, settings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = ["--teachers", str(trained / "emotion.keras")]
    assert main(arguments("distill", tiny, votes, settings, tmp_path, *more)) == 2
    assert "expected a teacher with the outputs fer2013, consensus" in capfd.readouterr().err
    assert not (tmp_path / "checkpoint.json").exists()


@pytest.mark.long
def test_seeds_give_mean_and_deviation(tiny: Path, votes: Path, settings: Path, tmp_path: Path) -> None:
    assert main(arguments("fit", tiny, votes, settings, tmp_path, "--seed", "4", "--seeds", "2")) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["runs"] == ["seed-4", "seed-5"]
    cards = [json.loads((tmp_path / name / "emotion.json").read_text()) for name in summary["runs"]]
    assert [card["seed"] for card in cards] == [4, 5]
    assert cards[0]["command"] == cards[1]["command"] and "--seed 4 --seeds 2" in cards[1]["command"]
    for label_set in ("fer2013", "consensus"):
        values = [card["figures"][label_set]["top1"] for card in cards]
        assert summary[label_set]["top1"]["mean"] == pytest.approx(np.mean(values))
        assert summary[label_set]["top1"]["deviation"] == pytest.approx(np.std(values, ddof=1))


@pytest.mark.long
def test_folds_train_on_the_rest_without_the_validation_part(
    tiny: Path, votes: Path, settings: Path, tmp_path: Path
) -> None:
    dataset = read_dataset(tiny, votes)
    held: list[str] = []
    for part in folds(dataset, 2):
        fitted, validated = part.parts["train"], part.parts["validation"]
        assert not set(fitted.names) & set(validated.names)
        assert np.bincount(validated.labels).tolist() == [2] * 7
        assert part.votes is not None and len(part.votes["validation"]) == len(validated)
        held += validated.names
    assert sorted(held) == sorted(dataset.parts["train"].names)
    assert main(arguments("fit", tiny, votes, settings, tmp_path, "--folds", "2")) == 0
    assert json.loads((tmp_path / "summary.json").read_text())["runs"] == ["fold-0", "fold-1"]


def test_more_folds_than_pictures_are_refused(
    votes: Path, settings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = made.write_zip(tmp_path / "few.zip", made.rows(training=2))
    few = write_votes(tmp_path / "votes.csv", made.rows(training=2))
    assert main(arguments("fit", data, few, settings, tmp_path / "out", "--folds", "3")) == 2
    assert "found 2; reduce --folds" in capfd.readouterr().err
