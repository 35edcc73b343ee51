"""The figures, their JSON, and what `evaluate` refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.emotions import EMOTIONS
from tests.trainer import faces as made
from trainer.__main__ import main
from trainer.metrics import figures

PROJECT = Path(__file__).resolve().parents[2]


def evaluate(model: Path, data: Path, *more: str) -> int:
    return main(["evaluate", "--model", str(model), "--data", str(data), *more])


def test_figures_worked_out_by_hand() -> None:
    # Of three angry one is right, two are called happy; the one happy is right; the one sad is called angry.
    labels = np.array([0, 0, 0, 3, 4])
    predicted = np.eye(7, dtype=np.float32)[[0, 3, 3, 3, 0]]
    found = figures(labels, predicted)
    assert found["top1"] == pytest.approx(2 / 5)
    assert found["pictures"] == 5
    assert found["per_class"]["angry"] == pytest.approx(
        {"precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5, "pictures": 3}
    )
    assert found["per_class"]["happy"] == pytest.approx(
        {"precision": 1 / 3, "recall": 1, "f1": 1 / 2, "pictures": 1}
    )
    assert found["per_class"]["disgust"] == {"precision": 0, "recall": 0, "f1": 0, "pictures": 0}
    assert found["macro_f1"] == pytest.approx((2 / 5 + 1 / 2 + 0) / 3), "over the emotions that are there"
    assert found["confusion"][0] == [1, 0, 0, 2, 0, 0, 0]
    assert found["confusion"][4] == [1, 0, 0, 0, 0, 0, 0]


def test_json_and_plots(trained: Path, tiny: Path, tmp_path: Path) -> None:
    scores, plots = tmp_path / "new" / "scores.json", tmp_path / "plots"
    model = trained / "emotion.keras"
    assert evaluate(model, tiny, "--json", str(scores), "--plots", str(plots)) == 0
    found = json.loads(scores.read_text())
    assert list(found) == ["fer2013"]
    assert set(found["fer2013"]) == {"top1", "macro_f1", "pictures", "per_class", "confusion"}
    assert found == json.loads((trained / "emotion.json").read_text())["figures"]
    assert found["fer2013"]["pictures"] == 14
    assert list(found["fer2013"]["per_class"]) == list(EMOTIONS)
    assert (plots / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_only_the_pictures_named(trained: Path, tiny: Path, tmp_path: Path) -> None:
    wanted = [row.name for row in made.rows() if row.usage == "PublicTest" and row.emotion in ("sad", "fear")]
    names = tmp_path / "found.txt"
    names.write_text("\n".join(wanted) + "\n\n")
    scores = tmp_path / "scores.json"
    assert evaluate(trained / "emotion.keras", tiny, "--pictures", str(names), "--json", str(scores)) == 0
    found = json.loads(scores.read_text())["fer2013"]
    assert found["pictures"] == 4
    assert {e: row["pictures"] for e, row in found["per_class"].items() if row["pictures"]} == {
        "sad": 2,
        "fear": 2,
    }


def test_the_test_part(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = made.write_zip(tmp_path / "private.zip", made.rows(training=0, public=0, private=2))
    assert evaluate(trained / "emotion.keras", path, "--split", "test") == 0
    assert "14 pictures" in capfd.readouterr().out
    assert evaluate(trained / "emotion.keras", path) == 2


def copy(trained: Path, to: Path, **changes: Any) -> Path:
    """A copy of the trained model whose card has other values; a value of None takes the key out."""
    model = Path(shutil.copy(trained / "emotion.keras", to))
    card = json.loads((trained / "emotion.json").read_text()) | changes
    (to / "emotion.json").write_text(json.dumps({k: v for k, v in card.items() if v is not None}))
    return model


def refusal(model: Path, data: Path, capfd: pytest.CaptureFixture[str], *more: str) -> str:
    capfd.readouterr()
    assert evaluate(model, data, *more) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_a_model_without_its_card(
    trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = copy(trained, tmp_path)
    (tmp_path / "emotion.json").unlink()
    assert "emotion.json: no such file" in refusal(model, tiny, capfd)


def test_a_model_that_is_not_the_card_s(
    trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = copy(trained, tmp_path)
    model.write_bytes(model.read_bytes() + b"x")
    assert "sha256" in refusal(model, tiny, capfd)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("labels", list(reversed(EMOTIONS))),
        ("input", {"shape": [64, 64, 1], "dtype": "uint8"}),
        ("sha256", None),
    ],
)
def test_a_card_that_says_otherwise(
    key: str, value: Any, trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert key in refusal(copy(trained, tmp_path, **{key: value}), tiny, capfd)


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_damaged_card(
    content: str, trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = copy(trained, tmp_path)
    (tmp_path / "emotion.json").write_text(content)
    assert "expected a card" in refusal(model, tiny, capfd)


def test_a_file_that_is_no_model(
    trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from trainer.files import sha256

    other = tmp_path / "other"
    other.write_text("no model")
    model = copy(trained, tmp_path, sha256=sha256(other))
    model.write_text("no model")
    assert "expected a Keras model" in refusal(model, tiny, capfd)


def test_names_that_are_not_there(
    trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = trained / "emotion.keras"
    names = tmp_path / "names.txt"
    assert "names.txt: cannot be read" in refusal(model, tiny, capfd, "--pictures", str(names))
    names.write_text("\n")
    assert "found none" in refusal(model, tiny, capfd, "--pictures", str(names))
    names.write_text("test/sad/PublicTest_1.png\n")
    assert "test/sad/PublicTest_1.png" in refusal(model, tiny, capfd, "--pictures", str(names))
    assert "no such file" in refusal(tmp_path / "none.keras", tiny, capfd)


@pytest.mark.long
def test_the_committed_model_scores_what_its_card_says(shared: Path, tmp_path: Path) -> None:
    model, scores = PROJECT / "models/emotion.keras", tmp_path / "scores.json"
    assert evaluate(model, shared / "data/fer2013.zip", "--json", str(scores)) == 0
    found = json.loads(scores.read_text())["fer2013"]
    said = json.loads(model.with_suffix(".json").read_text())["figures"]["fer2013"]
    assert found["pictures"] == said["pictures"] == 3579
    # Other processors round otherwise: a face on the border between two emotions may fall either way.
    assert found["top1"] == pytest.approx(said["top1"], abs=0.002)
    assert found["macro_f1"] == pytest.approx(said["macro_f1"], abs=0.004)
