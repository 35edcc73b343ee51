"""Real processes, killed and resumed, on each backend that is installed: the same result to the bit."""

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.common.files import PROJECT
from trainer.__main__ import main

BACKENDS = [
    pytest.param(("tensorflow", "float32"), id="tensorflow"),
    pytest.param(
        ("torch", "mixed_bfloat16"),
        id="torch",
        marks=pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed"),
    ),
]


KILLS_ITSELF = """
import os, signal, sys
from trainer.__main__ import main
from rich.progress import Progress

epochs = []
Progress.reset = lambda *given, **named: epochs.append(1)  # called after each epoch
Progress.update = lambda *given, **named: epochs and os.kill(os.getpid(), signal.SIGKILL)  # after each step
sys.exit(main(sys.argv[1:]))
"""
"""A training that is killed at the first step of its second epoch."""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=PROJECT)


def finish(arguments: list[str]) -> str:
    done = run("-m", "trainer", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def arrays(path: Path) -> dict[str, bytes]:
    """Every array of a checkpoint's file, by its name."""
    found: dict[str, bytes] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: np.asarray(item).tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


@pytest.mark.long
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_and_resumed_is_equal_to_the_bit(
    backend: tuple[str, str], tiny: Path, votes: Path, settings: Path, tmp_path: Path
) -> None:
    arguments = ["fit", "--data", str(tiny), "--votes", str(votes), "--settings", str(settings)]
    arguments += ["--backend", backend[0], "--precision", backend[1], "--deterministic", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert "epoch 3/3" in finish([*arguments, str(whole)])
    assert run("-c", KILLS_ITSELF, *arguments, str(killed)).returncode == -signal.SIGKILL
    assert (killed / "checkpoint.json").exists() and not (killed / "emotion.keras").exists()
    assert "epoch 3/3" in finish([*arguments, str(killed), "--resume"])
    for name in ("last-0003.weights.h5", "ema-0003.weights.h5"):
        one, two = arrays(whole / name), arrays(killed / name)
        assert one.keys() == two.keys() and len(one) > 20
        assert [key for key in one if one[key] != two[key]] == []
    cards = [json.loads((out / "emotion.json").read_text()) for out in (whole, killed)]
    assert cards[0]["figures"] == cards[1]["figures"]
    assert cards[0]["temperatures"] == cards[1]["temperatures"]


FUSED = """
import keras, numpy as np, torch
from trainer.networks import FusedBatchNormalization, batch_normalisation
axis = {axis}
faces = np.random.default_rng(0).normal(2, 3, (64, 12, 10, 8)).astype("float32")
given = np.random.default_rng(1).normal(size=faces.shape).astype("float32")
results = []
for layer in (batch_normalisation(True, axis=axis, momentum=0.9), keras.layers.BatchNormalization(axis, 0.9)):
    x = torch.tensor(faces, requires_grad=True)
    y = layer(x, training=True)
    (y * torch.tensor(given)).sum().backward()
    plain = layer(torch.tensor(faces), training=False)
    values = [y, x.grad, plain, *(weight.value for weight in layer.weights)]
    values += [weight.value.grad for weight in layer.trainable_weights]
    results.append([v.detach().numpy() for v in values])
    print(type(layer).__name__)
for one, other in zip(*results, strict=True):
    # PyTorch's moving variance is the unbiased one: n / (n - 1) of Keras's.
    rough = one.ndim == 1
    np.testing.assert_allclose(one, other, rtol=1e-3 if rough else 1e-4, atol=2e-3)
assert isinstance(layer, keras.layers.BatchNormalization) and type(layer) is not FusedBatchNormalization
assert type(batch_normalisation(False, axis=axis)) is keras.layers.BatchNormalization
"""


@pytest.mark.long
@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed")
@pytest.mark.parametrize("axis", [1, -1])
def test_fused_normalisation_equals_keras_own(axis: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FUSED.format(axis=axis)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={"KERAS_BACKEND": "torch", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["FusedBatchNormalization", "BatchNormalization"]


def test_backend_that_is_not_installed_is_one_line(
    tiny: Path,
    settings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not there
    arguments = [
        "--data",
        str(tiny),
        "--settings",
        str(settings),
        "--out",
        str(tmp_path),
        "--backend",
        "torch",
    ]
    assert main(["fit", *arguments]) == 2
    reason = "not installed; pip install -r requirements-torch.txt, or choose another --backend"
    assert capsys.readouterr().err == f"error: backend torch: {reason}\n"
