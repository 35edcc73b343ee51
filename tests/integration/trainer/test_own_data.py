"""Trainings on data of one's own: few faces, fewer emotions, other sizes; and what the card says of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import fer_faces as made
from tests.support.trainer import fit_arguments
from trainer.__main__ import main, parser
from trainer.model_file import open_model, predict


def own_faces(root: Path, missing: tuple[str, ...]) -> Path:
    """Colour pictures of 60 px in folders by emotion."""
    for row in made.rows(training=4, public=2):
        if row.emotion not in missing:
            pixels = np.stack([np.pad(row.face, 6, mode="edge")] * 3, axis=-1)
            folder = "train" if row.usage == "Training" else "val"
            made.write_file(root / folder / row.emotion.upper() / f"{row.number}.png", made.picture(pixels))
    return root


def test_fewer_emotions_are_trained_and_the_card_says_which(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, out = own_faces(tmp_path / "own", ("disgust", "fear")), tmp_path / "out"
    assert main([*fit_arguments(data, out, "--resize"), "--batch", "1024"]) == 0
    text = capfd.readouterr().out
    assert "20 faces for train, 10 faces for validation" in text
    assert "no pictures of disgust, fear for train: the network will not learn them" in text
    assert "20 faces in batches of 1,024 are 1 step an epoch; with --batch 8 they are 3" in text
    card = json.loads((out / "emotion.json").read_text())
    assert card["not_learned"] == {"fer2013": ["disgust", "fear"]}
    assert card["data"]["parts"]["train"]["missing"] == ["disgust", "fear"]
    assert card["data"]["resized"].startswith("pictures of other sizes than 48x48")
    assert parser().parse_args(card["command"].split()[3:]).resize
    faces = np.random.default_rng(0).integers(0, 256, (20, 48, 48, 1), np.uint8)
    for name in ("emotion.keras", "emotion.onnx"):
        assert predict(open_model(out / name), faces)["fer2013"][:, 1:3].max() < 1e-6
    capfd.readouterr()
    assert main(["evaluate", "--model", str(out / "emotion.onnx"), "--data", str(data), "--resize"]) == 0
    assert "emotion" in capfd.readouterr().out


def test_full_batches_are_not_remarked_upon(
    tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*fit_arguments(tiny, tmp_path), "--epochs", "1", "--batch", "8"]) == 0
    assert "an epoch" not in capfd.readouterr().out
