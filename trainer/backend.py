"""Which Keras backend computes, and a quiet import of it.

TensorFlow is the default; PyTorch is an option because long trainings use its bfloat16 kernels, on a CPU that
has them or on a GPU, as that of the shipped model did.
"""

import importlib.util
import os
from typing import Final

from pipeline.common.errors import UserError
from pipeline.common.native_output import quiet_native

REQUIREMENTS: Final = {"tensorflow": "requirements-train.txt", "torch": "requirements-torch.txt"}
"""What to install for each backend."""


def choose_backend(name: str, deterministic: bool = False) -> None:
    """Make Keras use the backend `name`; call it before Keras is imported.

    With `deterministic`, results are the same to the bit on one machine. Raises UserError if the backend is
    not installed.
    """
    if importlib.util.find_spec(name) is None:
        raise UserError(
            f"backend {name}: not installed; pip install -r {REQUIREMENTS[name]}, or choose another --backend"
        )
    os.environ["KERAS_BACKEND"] = name
    if deterministic:
        os.environ["TF_DETERMINISTIC_OPS"] = "1"
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # PyTorch requires it on a GPU
    if deterministic and name == "torch":
        import torch

        torch.use_deterministic_algorithms(True)


def load_keras() -> None:
    """Import Keras and its backend without their log lines; call it before any module that imports Keras."""
    with quiet_native():
        import keras

        keras.ops.zeros(1)  # the first operation starts the backend's devices, which log as well
        if keras.backend.backend() != "tensorflow" and importlib.util.find_spec("tensorflow"):
            importlib.import_module("tensorflow")  # Keras imports it later, to recognise its arrays
