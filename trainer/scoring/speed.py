"""What a model costs: its size, and how many faces a second it classifies here."""

import os
import platform
import statistics
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.emotions import FACE_SIZE
from trainer.scoring.onnx_model import OnnxModel

BATCHES: Final = (1, 32)
ROUNDS: Final = 7
FACES_A_ROUND: Final = 64


def size(model: Any, path: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters, multiply-adds of one face and bytes of the file `path`, None for what is unknown.

    Of an ONNX file the first two are the Keras model's, as the card has them.
    """
    if isinstance(model, OnnxModel):
        counts = {key: card.get(key) for key in ("parameters", "multiply_adds")}
    else:
        counts = {"parameters": model.count_params(), "multiply_adds": cost(model)}
    return {"file": path.name, **counts, "bytes": path.stat().st_size}


def cost(model: Any) -> int | None:
    """Multiply-adds of one face through a Keras model; None if a layer's are unknown."""
    from trainer.models.cost import multiply_adds

    try:
        return multiply_adds(model)
    except NotImplementedError:
        return None


def speed(model: Any) -> dict[str, Any]:
    """Faces a second by size of batch, the median of ROUNDS, and the machine that they are of."""
    rates = {f"batch_{batch}": round(faces_per_second(model, batch), 1) for batch in BATCHES}
    return {"unit": "faces per second", **rates, "rounds": ROUNDS, "machine": machine(model)}


def faces_per_second(model: Any, batch: int) -> float:
    """The median rate of compiled calls with `batch` faces each."""
    faces = np.random.default_rng(0).integers(0, 256, (batch, FACE_SIZE, FACE_SIZE, 1), np.uint8)
    calls = max(FACES_A_ROUND // batch, 1)
    # The first call compiles.
    model.predict_on_batch(faces)
    rates = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(calls):
            model.predict_on_batch(faces)
        rates.append(calls * batch / (time.perf_counter() - started))
    return statistics.median(rates)


def machine(model: Any) -> str:
    """Processor, cores and what runs the model, in words."""
    return f"{processor()}, {os.cpu_count()} cores, {runtime(model)}"


def runtime(model: Any) -> str:
    """What runs `model`, in words."""
    if isinstance(model, OnnxModel):
        return f"ONNX Runtime {version('onnxruntime')} on one thread"
    import keras

    return f"Keras on {keras.backend.backend()}"


def processor() -> str:
    """The processor's name as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
