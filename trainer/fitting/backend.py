"""Which of Keras's backends computes. Keras itself is imported only after that is settled."""

import importlib.util
import os
import sys
from typing import Final

from pipeline.common.errors import UserError

INSTALL: Final = {
    "torch": "pip install -r requirements-torch.txt",
    "jax": "pip install -r requirements-jax.txt",
    "tensorflow": "pip install -r requirements-train.txt",
}


def choose_backend(name: str, deterministic: bool = False) -> None:
    """Have Keras compute with the backend `name`; with `deterministic`, always the same on one machine.

    Raises UserError if it isn't installed, or if Keras was loaded with another one already.
    """
    if importlib.util.find_spec(name) is None:
        raise UserError(f"backend {name}: not installed; {INSTALL[name]}, or choose another --backend")
    os.environ["KERAS_BACKEND"] = name
    if deterministic:
        os.environ["TF_DETERMINISTIC_OPS"] = "1"
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which PyTorch asks for on a GPU
    loaded = sys.modules.get("keras")
    if loaded is not None and loaded.backend.backend() != name:
        raise UserError(f"backend {name}: this process has loaded {loaded.backend.backend()} already")
    if deterministic and name == "torch":
        import torch

        torch.use_deterministic_algorithms(True)
