"""Models as the classifier loads them."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.stages.classify.conftest import keras_says, write_card
from tests.stages.classify.test_model_file import members, packed

pytestmark = pytest.mark.long

_LOAD = """
import sys
import numpy as np
from pipeline.errors import UserError
from pipeline.settings import ClassifySettings
from stages.classify.classifier import Classifier

for path in sys.argv[1:]:
    try:
        classifier = Classifier(ClassifySettings(model=path, batch_sizes=[1, 4]))
        print("loaded", np.round(classifier(np.zeros((5, 48, 48), np.uint8)).sum(), 3))
    except UserError as error:
        print(error)
"""


def changed(model: Path, name: str, **parts: bytes) -> Path:
    """Write a copy with other members (dots in their names are underscores), and a card that fits."""
    path = model.with_name(f"{name}.keras")
    path.write_bytes(packed(members(model) | {key.replace("__", "."): value for key, value in parts.items()}))
    return write_card(path)


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
        models / "logits.keras": "logits.keras: probabilities that add up to 1 are expected, to 7 found",
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
        "import pathlib, stages.classify.classifier as c\n"
        "check = c.check_model_file\n"
        "def swap(path, data):\n"
        "    found = check(path, data)\n"
        "    pathlib.Path(path).write_bytes(b'of another')\n"
        "    return found\n"
        "c.check_model_file = swap\n"
        "for path in",
    )
    path = changed(models / "tiny.keras", "swapped")
    assert keras_says(script, path) == ["loaded 5.0"]
    assert not zipfile.is_zipfile(path)
