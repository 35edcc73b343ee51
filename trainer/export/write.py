"""An ONNX file beside a Keras model, and what the card says of it."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from pipeline.emotions import FACE_SIZE
from pipeline.errors import UserError
from trainer.export.graph import to_onnx
from trainer.files import replacing, sha256
from trainer.scoring.onnx_model import OnnxModel
from trainer.scoring.predict import predictions

TOLERANCE: Final = 1e-5
"""Of a probability: far more than rounding makes of it."""


def checked_onnx(model: Any, path: Path) -> onnx.ModelProto:
    """The Keras `model` of the file `path` in ONNX, float32, once it gives the same probabilities.

    Raises UserError for a network that can't be written.
    """
    made = to_onnx(model, path)
    shape = (8, FACE_SIZE, FACE_SIZE, 1)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = predictions(model, noise)
    found = predictions(OnnxModel(made.SerializeToString()), noise)
    difference = max(float(np.abs(found[name] - expected[name]).max()) for name in expected)
    if not difference <= TOLERANCE:
        raise UserError(
            f"{path}: expected the same probabilities of ONNX Runtime to {TOLERANCE}, found a difference of "
            f"{difference:.2g}; use a model that `python -m trainer fit` wrote"
        )
    return made


def write_onnx(made: onnx.ModelProto, model: Path, precision: str) -> dict[str, Any]:
    """Write `made` beside the Keras file `model`; returns the card's entry. Raises UserError."""
    path = model.with_suffix(".onnx")
    with replacing(path) as temporary:
        temporary.write_bytes(made.SerializeToString(deterministic=True))
    return {"file": path.name, "sha256": sha256(path), "precision": precision}
