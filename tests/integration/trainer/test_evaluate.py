"""The scores, their JSON, and what `evaluate` refuses."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.common.files import PROJECT
from pipeline.common.labels import EMOTIONS
from tests.support import fer_faces as made
from trainer.__main__ import main
from trainer.metrics import classification_metrics


def evaluate(model: Path, data: Path, *more: str) -> int:
    return main(["evaluate", "--model", str(model), "--data", str(data), *more])


def test_metrics_worked_out_by_hand() -> None:
    # Of three angry one is right, two are called happy; the one happy is right; the one sad is called angry.
    labels = np.array([0, 0, 0, 3, 4])
    found = classification_metrics(labels, np.array([0, 3, 3, 3, 0]))
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
    assert found["mean_recall"] == pytest.approx((1 / 3 + 1 + 0) / 3), "over the emotions that are there"
    assert found["neutral"] == {"true": 0, "called": 0, "of_mistakes": 0}
    assert found["confusion"][0] == [1, 0, 0, 2, 0, 0, 0]
    assert found["confusion"][4] == [1, 0, 0, 0, 0, 0, 0]


def test_json_and_plots(trained: Path, tiny: Path, tmp_path: Path) -> None:
    scores, plots = tmp_path / "new" / "scores.json", tmp_path / "plots"
    model = trained / "emotion.keras"
    assert evaluate(model, tiny, "--json", str(scores), "--plots", str(plots)) == 0
    found = json.loads(scores.read_text())
    assert set(found) == {"fer2013", "split", "degraded", "data", "model", "speed", "mistakes", "worst"}
    assert found["fer2013"] == json.loads((trained / "emotion.json").read_text())["figures"]["fer2013"]
    assert found["fer2013"]["pictures"] == 14
    assert list(found["fer2013"]["per_class"]) == list(EMOTIONS)
    assert found["split"] == "validation"
    assert found["model"]["parameters"] == 555_623
    assert found["model"]["bytes"] == model.stat().st_size
    assert min(found["speed"]["batch_1"], found["speed"]["batch_32"]) > 0
    drawn = {path.name: path.read_bytes()[:4] for path in plots.iterdir()}
    names = ("confusion.png", "risk.png", "reliability.png", "mistakes.png", "worst.png")
    assert drawn == dict.fromkeys(names, b"\x89PNG")


def test_both_outputs_by_both_label_sets_and_compared(
    two_outputs: Path,
    trained: Path,
    tiny: Path,
    votes: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    scores, plots = tmp_path / "scores.json", tmp_path / "plots"
    places = ("--votes", str(votes), "--json", str(scores), "--plots", str(plots))
    more = ("--compare", str(trained / "emotion.keras"), "--bootstrap", "50")
    assert evaluate(two_outputs, tiny, *places, *more) == 0
    found = json.loads(scores.read_text())
    assert [found[name]["pictures"] for name in ("fer2013", "consensus")] == [14, 10]
    assert [found[name]["output"] for name in ("fer2013", "consensus")] == ["fer2013", "consensus"]
    assert found["consensus"]["per_class"]["fear"]["pictures"] == 0, "votes are divided"
    assert found["consensus"]["intervals"]["resamples"] == 50
    compared = found["comparison"]
    assert compared["consensus"]["outputs"] == ["consensus", "fer2013"], "the other has one output only"
    assert compared["consensus"]["pictures"] == 10
    assert compared["fer2013"]["top1"]["this"] == pytest.approx(found["fer2013"]["top1"])
    assert compared["with"]["parameters"] == 555_623
    assert (plots / "mistakes-consensus.png").is_file()
    text = capfd.readouterr().out
    assert "p = " in text
    assert max(map(len, text.splitlines())) <= 100 + len(str(trained))


def test_several_sets_in_one_table_and_another_output(
    two_outputs: Path, tiny: Path, votes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    strangers = tmp_path / "strangers.zip"
    with zipfile.ZipFile(strangers, "w") as archive:
        for row in made.rows(training=0, public=1):
            archive.writestr(f"test/{row.emotion}/{row.number}.png", made.picture(row.face))
    scores = tmp_path / "scores.json"
    several = ("--votes", str(votes), "--json", str(scores), "--bootstrap", "50")
    arguments = ["evaluate", "--model", str(two_outputs), "--data", str(tiny), str(strangers), *several]
    assert main(arguments) == 0
    rows = json.loads(scores.read_text())["sets"]
    assert [(row["data"], row["part"], row["labels"], row["output"], row["pictures"]) for row in rows] == [
        ("tiny.zip", "validation", "fer2013", "fer2013", 14),
        ("tiny.zip", "validation", "consensus", "consensus", 10),
        ("strangers.zip", "test", "its own", "fer2013", 7),
        ("strangers.zip", "test", "its own", "consensus", 7),
    ]
    text = capfd.readouterr().out
    assert text.count("strangers.zip") == 2 and max(map(len, text.splitlines())) <= 120
    assert main([*arguments, "--output", "consensus", "--degraded"]) == 0
    rows = json.loads(scores.read_text())["sets"]
    assert [row["output"] for row in rows] == ["consensus"] * 3
    assert main([*arguments, "--plots", str(tmp_path)]) == 2
    assert "error: --plots: for one set of pictures, found 2 in --data" in capfd.readouterr().err


def test_output_that_the_model_does_not_have(
    trained: Path, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = "error: --output consensus: "
    assert expected in refusal(trained / "emotion.keras", tiny, capfd, "--output", "consensus")


def test_onnx_file_beside_the_keras_file_it_was_made_from(
    taught: Path, tiny: Path, votes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, scores = taught / "emotion.onnx", tmp_path / "scores.json"
    more = ("--votes", str(votes), "--json", str(scores), "--compare", str(taught / "emotion.keras"))
    assert evaluate(model, tiny, *more) == 0
    found, card = json.loads(scores.read_text()), json.loads((taught / "emotion.json").read_text())
    for name in ("fer2013", "consensus"):
        assert found[name]["top1"] == card["figures"][name]["top1"]
        assert found["comparison"][name]["p"] == 1
        assert found["comparison"][name]["only_this_right"] == 0
    assert found["model"] == {
        "file": "emotion.onnx",
        "parameters": card["parameters"],
        "multiply_adds": card["multiply_adds"],
        "bytes": model.stat().st_size,
    }
    assert "ONNX Runtime" in found["speed"]["machine"] and "one thread" in found["speed"]["machine"]
    assert min(found["speed"]["batch_1"], found["speed"]["batch_32"]) > 0


def test_onnx_files_that_are_no_emotion_model(
    taught: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import onnx

    from pipeline.common.files import sha256

    card = json.loads((taught / "emotion.json").read_text())
    model, face = tmp_path / "emotion.onnx", onnx.load(taught / "emotion.onnx")
    face.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64
    for content, text in (
        (b"no model", "expected an ONNX model, found another file"),
        (
            face.SerializeToString(),
            "expected an input (None, 48, 48, 1), as its card says, found (None, 64, 48, 1)",
        ),
    ):
        model.write_bytes(content)
        entry = card["onnx"] | {"sha256": sha256(model)}
        (tmp_path / "emotion.json").write_text(json.dumps(card | {"onnx": entry}))
        assert text in refusal(model, tiny, capfd)


def test_only_output_is_scored_by_both_label_sets(tiny: Path, votes: Path, tmp_path: Path) -> None:
    from tests.support.untrained import write_model

    scores = tmp_path / "scores.json"
    model = write_model(tmp_path / "one.keras", ["consensus"])
    assert evaluate(model, tiny, "--votes", str(votes), "--json", str(scores)) == 0
    found = json.loads(scores.read_text())
    assert [found[name]["output"] for name in ("fer2013", "consensus")] == ["consensus"] * 2


def test_models_of_other_shapes_are_refused(
    two_outputs: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.support.untrained import write_model

    other = write_model(tmp_path / "other.keras", ["fer2013", "valence"], stated=["fer2013"])
    said = "expected outputs {'fer2013': (None, 7)}, as its card says, found {'fer2013': (None, 7), 'valence'"
    assert said in refusal(other, tiny, capfd)
    large = write_model(tmp_path / "large.keras", ["fer2013"], size=64)
    said = "expected an input (None, 48, 48, 1), as its card says, found (None, 64, 64, 1)"
    assert said in refusal(large, tiny, capfd)
    model = Path(shutil.copy(two_outputs, tmp_path))
    card = json.loads(two_outputs.with_suffix(".json").read_text())
    del card["outputs"]
    model.with_suffix(".json").write_text(json.dumps(card))
    assert "two.keras: expected outputs {'fer2013': (None, 7)}, as its card says" in refusal(
        model, tiny, capfd
    )


def test_votes_without_a_majority_are_refused(
    trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.support.untrained import write_votes

    votes = write_votes(tmp_path / "votes.csv", [row for row in made.rows() if row.emotion == "fear"])
    text = refusal(trained / "emotion.keras", tiny, capfd, "--votes", str(votes))
    assert "expected a majority for at least one of the 14 pictures" in text


def test_only_the_named_pictures_are_scored(trained: Path, tiny: Path, tmp_path: Path) -> None:
    wanted = [row.name for row in made.rows() if row.usage == "PublicTest" and row.emotion in ("sad", "fear")]
    names = tmp_path / "found.txt"
    names.write_text("\n".join(wanted) + "\n\n")
    scores = tmp_path / "scores.json"
    assert evaluate(trained / "emotion.keras", tiny, "--pictures", str(names), "--json", str(scores)) == 0
    found = json.loads(scores.read_text())["fer2013"]
    assert found["pictures"] == found["ece_pictures"] == 4, "of a selection all are measured"
    assert {e: row["pictures"] for e, row in found["per_class"].items() if row["pictures"]} == {
        "sad": 2,
        "fear": 2,
    }


def test_test_part(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = made.write_zip(tmp_path / "private.zip", made.rows(training=0, public=0, private=2))
    assert evaluate(trained / "emotion.keras", path, "--split", "test") == 0
    assert "14 pictures" in capfd.readouterr().out
    assert evaluate(trained / "emotion.keras", path) == 2


def copy(trained: Path, to: Path, **changes: Any) -> Path:
    """A copy of the trained model whose card has other values; a value of None removes the key."""
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


def test_model_without_its_card(
    trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = copy(trained, tmp_path)
    (tmp_path / "emotion.json").unlink()
    assert "has no card" in refusal(model, tiny, capfd)


def test_model_with_another_sha256(
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
def test_card_of_another_model(
    key: str, value: Any, trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert key in refusal(copy(trained, tmp_path, **{key: value}), tiny, capfd)


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_damaged_card(
    content: str, trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = copy(trained, tmp_path)
    (tmp_path / "emotion.json").write_text(content)
    assert "not the card of a model" in refusal(model, tiny, capfd)


def test_file_that_is_no_model(
    trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from pipeline.common.files import sha256

    other = tmp_path / "other"
    other.write_text("no model")
    model = copy(trained, tmp_path, sha256=sha256(other))
    model.write_text("no model")
    assert "expected a Keras model" in refusal(model, tiny, capfd)


def test_unknown_picture_names(
    trained: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = trained / "emotion.keras"
    names = tmp_path / "names.txt"
    assert "names.txt: cannot be read" in refusal(model, tiny, capfd, "--pictures", str(names))
    names.write_text("\n")
    assert "found none" in refusal(model, tiny, capfd, "--pictures", str(names))
    names.write_text("test/sad/PublicTest_1.png\n")
    assert "test/sad/PublicTest_1.png" in refusal(model, tiny, capfd, "--pictures", str(names))
    assert "no emotion model" in refusal(tmp_path / "none.keras", tiny, capfd)


@pytest.mark.long
def test_shipped_model_scores_as_its_card_states(shared: Path, tmp_path: Path) -> None:
    model, scores = PROJECT / "models/emotion.keras", tmp_path / "scores.json"
    votes = shared / "data/ferplus.csv"
    assert evaluate(model, shared / "data/fer2013.zip", "--votes", str(votes), "--json", str(scores)) == 0
    card = json.loads(model.with_suffix(".json").read_text())
    assert card["data"]["parts"]["test"]["pictures"] == 0
    for label_set, pictures in (("fer2013", 3579), ("consensus", 3372)):
        found, stated = json.loads(scores.read_text())[label_set], card["figures"][label_set]
        assert found["pictures"] == stated["pictures"] == pictures
        # Other processors round otherwise: a face on the border between two emotions may fall either way.
        assert found["top1"] == pytest.approx(stated["top1"], abs=0.002)
        assert found["macro_f1"] == pytest.approx(stated["macro_f1"], abs=0.004)
        assert found["ece"] == pytest.approx(stated["ece"], abs=0.005)


@pytest.mark.long
def test_shipped_onnx_file_scores_as_its_card_states(shared: Path, tmp_path: Path) -> None:
    model, scores = PROJECT / "models/emotion.onnx", tmp_path / "scores.json"
    votes = shared / "data/ferplus.csv"
    assert evaluate(model, shared / "data/fer2013.zip", "--votes", str(votes), "--json", str(scores)) == 0
    entry = json.loads(model.with_suffix(".json").read_text())["onnx"]
    assert entry["precision"] == "int8"
    for label_set in ("fer2013", "consensus"):
        found, stated = json.loads(scores.read_text())[label_set], entry["against_float32"][label_set]
        # int8 sums are the same everywhere; what stays in float32 is rounded otherwise by other processors.
        assert found["top1"] == pytest.approx(stated["top1"]["int8"], abs=0.002)
        assert found["macro_f1"] == pytest.approx(stated["macro_f1"]["int8"], abs=0.004)
        assert found["ece"] == pytest.approx(stated["ece"]["int8"], abs=0.005)
        assert stated["top1"]["loss"] <= 0.003
        assert max(stated["macro_f1"]["loss"], stated["ece"]["loss"]) <= 0.005
