"""`python -m trainer export` from end to end, and the errors that end it in one line."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.common.model_card import read_all_keys
from tests.support import fer_faces as made
from trainer.__main__ import main
from trainer.dataset import read_dataset
from trainer.export import calibration_faces
from trainer.model_file import open_model, predict


@pytest.fixture
def model(taught: Path, tmp_path: Path) -> Path:
    """A copy of the trained tiny network, with both outputs, without its ONNX file."""
    card = json.loads((taught / "emotion.json").read_text())
    del card["onnx"]
    (tmp_path / "emotion.json").write_text(json.dumps(card))
    return Path(shutil.copy(taught / "emotion.keras", tmp_path))


def entry(model: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(model.with_suffix(".json").read_text())["onnx"]
    return found


def refusal(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    capfd.readouterr()
    assert main(["export", *map(str, arguments)]) == 2
    text = capfd.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1
    return text


@pytest.mark.parametrize("folder", ["trained", "taught"])
def test_fit_writes_the_onnx_file_and_its_entry(folder: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(folder) / "emotion.onnx"
    found = entry(model)
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    assert found == {"file": "emotion.onnx", "sha256": sha256, "precision": "float32"}
    pixels = np.stack([row.face for row in made.rows()])[..., None]
    expected = predict(open_model(model.with_suffix(".keras")), pixels)
    for name, probabilities in predict(open_model(model), pixels).items():
        assert np.abs(probabilities - expected[name]).max() <= 1e-5


def test_export_adds_its_entry_to_the_card(model: Path) -> None:
    before = json.loads(model.with_suffix(".json").read_text())
    assert main(["export", str(model)]) == 0
    after = json.loads(model.with_suffix(".json").read_text())
    assert {key: value for key, value in after.items() if key != "onnx"} == before
    assert after["onnx"]["precision"] == "float32"
    assert after["onnx"]["command"] == f"python -m trainer export {model}"
    assert read_all_keys(model.with_suffix(".onnx")) == read_all_keys(model) == after
    assert {path.name for path in model.parent.iterdir()} == {"emotion.json", "emotion.keras", "emotion.onnx"}


def test_int8_entry_has_calibration_and_loss(
    model: Path, tiny: Path, votes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(model), "--int8", "--data", str(tiny), "--votes", str(votes)]
    assert main(arguments) == 0
    found = entry(model)
    assert found["precision"] == "int8"
    assert found["command"] == f"python -m trainer {' '.join(arguments)}"
    assert found["calibration"]["pictures"] == 28, "the training pictures, all of them"
    assert found["calibration"]["data"]["sha256"] == hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert {"fer2013_logits", "consensus_logits"} < set(found["calibration"]["float32_layers"])
    cost = found["against_float32"]
    assert cost["pictures"] == 14
    for label_set in ("fer2013", "consensus"):
        assert cost[label_set]["agreement"] > 0.7
        top1 = cost[label_set]["top1"]
        assert top1["loss"] == pytest.approx(top1["float32"] - top1["int8"])
    assert "labels are those of float32" in capfd.readouterr().out
    read_all_keys(model.with_suffix(".onnx"))


def test_same_command_writes_the_same_file(model: Path, tiny: Path) -> None:
    hashes = set()
    for _ in range(2):
        assert main(["export", str(model), "--int8", "--data", str(tiny)]) == 0
        hashes.add(entry(model)["sha256"])
    assert len(hashes) == 1


def test_calibration_uses_training_pictures_only(tiny: Path) -> None:
    dataset = read_dataset(tiny, None)
    training = {face.tobytes() for face in dataset.parts["train"].pixels}
    found = [face.tobytes() for face in calibration_faces(dataset)]
    assert len(found) == len(set(found)) == 28
    assert set(found) <= training


def test_options_that_exclude_each_other(model: Path, tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "--int8: needs FER2013, to calibrate with" in refusal(capfd, model, "--int8")
    assert "--data and --votes: only used with --int8" in refusal(capfd, model, "--data", tiny)
    assert not model.with_suffix(".onnx").exists()


def test_data_without_training_pictures(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = made.write_zip(tmp_path / "public.zip", made.rows(training=0))
    text = refusal(capfd, model, "--int8", "--data", data)
    assert "public.zip: train: expected pictures of two emotions at least, found 0 pictures" in text
    assert not model.with_suffix(".onnx").exists()


def test_files_that_are_no_keras_model(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "no emotion model" in refusal(capfd, tmp_path / "none.keras")
    assert main(["export", str(model)]) == 0
    exported = model.with_suffix(".onnx")
    assert f"{exported}: expected a Keras model" in refusal(capfd, exported)
    card = json.loads(model.with_suffix(".json").read_text())
    model.write_bytes(b"no model")
    card["sha256"] = hashlib.sha256(b"no model").hexdigest()
    model.with_suffix(".json").write_text(json.dumps(card))
    assert f"{model}: expected a Keras model" in refusal(capfd, model)


def test_unwritable_place(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model.with_suffix(".onnx").mkdir()
    before = model.with_suffix(".json").read_bytes()
    assert f"{model.with_suffix('.onnx')}: cannot be written" in refusal(capfd, model)
    assert model.with_suffix(".json").read_bytes() == before
    assert not list(model.parent.glob(".unfinished-*"))
