"""Models as the classifier loads them."""

import io
import json
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.common.labels import LABEL_SETS
from tests.support.keras_files import keras_says, members, packed
from tests.support.models import CONFIDENCE, write_card

pytestmark = pytest.mark.long

_LOAD = """
import sys
import numpy as np
from pipeline.common.errors import UserError
from stages.classify.spec import ClassifySettings
from stages.classify.classifier import open_classifier

for path in sys.argv[1:]:
    try:
        classifier = open_classifier(ClassifySettings(model=path))
        print("loaded", np.round(classifier(np.zeros((5, 48, 48), np.uint8)).sum(), 3))
    except UserError as error:
        print(error)
"""


_LOAD_LABELS = """
import sys
import numpy as np
from pipeline.common.labels import EMOTIONS
from pipeline.common.errors import UserError
from stages.classify.spec import ClassifySettings
from stages.classify.classifier import open_classifier

for path, labels in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        classifier = open_classifier(ClassifySettings(model=path, labels=labels))
        rows = classifier(np.zeros((5, 48, 48), np.uint8))
        seen = {EMOTIONS[n] for n in rows.argmax(axis=1)}
        print(classifier.fingerprint.split()[-1], *seen, *np.unique(np.round(rows.max(axis=1), 3)))
    except UserError as error:
        print(error)
"""


def changed(model: Path, name: str, **parts: bytes) -> Path:
    """Write a copy with other members (dots in their names are underscores), and a card that fits."""
    path = model.with_name(f"{name}.keras")
    path.write_bytes(packed(members(model) | {key.replace("__", "."): value for key, value in parts.items()}))
    return write_card(path)


def with_outputs(model: Path, name: str, stated: list[str], layers: object) -> Path:
    """Write a copy whose config has other `output_layers`, and a card that states outputs."""
    config = json.loads(members(model)["config.json"])
    config["config"]["output_layers"] = layers
    return write_card(changed(model, name, config__json=json.dumps(config).encode()), outputs=stated)


def stating(model: Path, name: str, *outputs: str) -> Path:
    """Copy a model, with a card that states these outputs; none: as cards of one output do."""
    path = Path(shutil.copyfile(model, model.with_name(f"{name}.keras")))
    return write_card(path, **({"outputs": outputs} if outputs else {}))


def reshaped(weights: bytes, array: np.ndarray) -> bytes:
    """Return the weights with `array` in the place of the dense layer's."""
    content = io.BytesIO(weights)
    with h5py.File(content, "r+") as file:
        variables = file["layers/dense/vars"]
        del variables["0"]
        variables["0"] = array
    return content.getvalue()


def test_models_that_fit_are_loaded_and_others_are_told_in_one_line(models: Path) -> None:
    tiny = models / "tiny.keras"
    weights = members(tiny)["model.weights.h5"]
    config = json.loads(members(tiny)["config.json"])
    config["config"]["layers"][0]["config"]["batch_shape"] = "nonsense"
    expected = {
        models / "usual.keras": "loaded 5.0",
        models / "baseline.keras": "loaded 5.0",
        tiny: "loaded 5.0",
        models / "wide.keras": "wide.keras: a model from (None, 48, 48, 1) to (None, 7) is expected",
        models / "eight.keras": "eight.keras: a model from (None, 48, 48, 1) to (None, 7) is expected",
        models / "logits.keras": "logits.keras: it gives probabilities that do not add up to 1",
        models / "lambda.keras": "lambda.keras: refused: its config names keras.layers.Lambda",
        changed(
            tiny, "nonsense", config__json=json.dumps(config).encode()
        ): "nonsense.keras: can't be loaded",
        changed(tiny, "torn", model__weights__h5=weights[:900]): "torn.keras: refused: its weights can't be",
    }
    for name, array in {
        "larger": np.zeros((2, 7), np.float32),
        "fewer": np.zeros(7, np.float32),
        "text": np.array(b"words"),
    }.items():
        said = "refused: its weights hold '0'" if name == "text" else "can't be loaded"
        path = changed(tiny, name, model__weights__h5=reshaped(weights, array))
        expected[path] = f"{name}.keras: {said}"
    lines = keras_says(_LOAD, *expected)
    assert len(lines) == len(expected), lines
    for line, said in zip(lines, expected.values(), strict=True):
        assert said in line


def test_the_bytes_that_were_checked_are_those_that_are_loaded(models: Path) -> None:
    """A file that is swapped after its check is not what runs."""
    script = _LOAD.replace(
        "for path in",
        "import pathlib, stages.classify.keras_classifier as c\n"
        "check = c.check_model_file\n"
        "def swap(data):\n"
        "    found = check(data)\n"
        "    pathlib.Path(path).write_bytes(b'of another')\n"
        "    return found\n"
        "c.check_model_file = swap\n"
        "for path in",
    )
    path = changed(models / "tiny.keras", "swapped")
    assert keras_says(script, path) == ["loaded 5.0"]
    assert not zipfile.is_zipfile(path)


def test_the_output_of_the_labels_that_are_asked_for_is_shown(models: Path) -> None:
    both = stating(models / "both.keras", "stated", *LABEL_SETS)
    only = stating(models / "consensus.keras", "only", "consensus")
    expected = {
        (both, "auto"): f"consensus happy {CONFIDENCE:.3f}",
        (both, "consensus"): f"consensus happy {CONFIDENCE:.3f}",
        (both, "fer2013"): f"fer2013 sad {CONFIDENCE:.3f}",
        (only, "auto"): f"consensus happy {CONFIDENCE:.3f}",
        (only, "fer2013"): "classify.labels: fer2013 expected, but ",
        (models / "tiny.keras", "consensus"): "classify.labels: consensus expected, but ",
        (stating(models / "both_logits.keras", "logits_shown", *LABEL_SETS), "fer2013"): "end with a softmax",
    }
    lines = keras_says(_LOAD_LABELS, *(word for asked in expected for word in asked))
    assert len(lines) == len(expected), lines
    for line, said in zip(lines, expected.values(), strict=True):
        assert said in line


def test_outputs_that_are_not_those_of_the_card_are_refused_in_one_line(models: Path) -> None:
    both = models / "both.keras"
    first, second = ["fer2013", 0, 0], ["consensus", 0, 0]
    long = "x\n" * 1000
    expected = {
        stating(both, "silent"): "outputs fer2013 expected, as its card says, 'fer2013, consensus' found",
        stating(both, "less", "consensus"): "outputs consensus expected",
        stating(models / "consensus.keras", "more", *LABEL_SETS): "'consensus' found",
        stating(models / "tiny.keras", "single", "consensus"): "'fer2013' found",
        stating(models / "people.keras", "named", *LABEL_SETS): "'fer2013, people' found",
        stating(models / "both_eight.keras", "eights", *LABEL_SETS): "to (None, 8) found, output consensus",
        with_outputs(both, "missing", [*LABEL_SETS], {"fer2013": first}): "'fer2013' found",
        with_outputs(both, "third", [*LABEL_SETS], {"fer2013": first, "consensus": second, long: first}): (
            "'fer2013, consensus, x\\nx"
        ),
        with_outputs(both, "listed", ["fer2013"], [first, second]): "to list found, output fer2013",
        with_outputs(both, "nested", ["fer2013"], {"fer2013": {"consensus": second}}): "to dict found",
        with_outputs(both, "absent", [*LABEL_SETS], {"fer2013": first, "consensus": ["none", 0, 0]}): (
            "can't be loaded"
        ),
        with_outputs(both, "nothing", ["fer2013"], {}): "",
    }
    lines = keras_says(_LOAD_LABELS, *(word for path in expected for word in (path, "auto")))
    assert len(lines) == len(expected), lines
    for line, (path, said) in zip(lines, expected.items(), strict=True):
        assert line.startswith(f"{path}: ") and said in line, line
        assert len(line) < 500
