"""Files that pass for models, with their cards."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.common.labels import EMOTIONS


def write_model(folder: Path, **changed: Any) -> Path:
    """Write a file that passes for a model, and its card with some keys changed or, if None, removed."""
    model = folder / "emotion.keras"
    model.write_bytes(b"layers and weights")
    card = {
        "format": 1,
        "file": model.name,
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "labels": list(EMOTIONS),
        "input": {"shape": [48, 48, 1], "dtype": "uint8"},
        "name": "baseline",
        "parameters": 555_623,
        "multiply_adds": 40_000_000,
        "figures": {"fer2013": {"top1": 0.612, "macro_f1": 0.58}},
        "seed": 1,
    }
    card = {key: value for key, value in (card | changed).items() if value is not None}
    model.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    return model
