"""What the trainer's tests share: tiny data, models trained on it once, callbacks that do nothing."""

from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import fer_faces as faces
from trainer.__main__ import main
from trainer.settings import Settings

KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
"""Keras 3.15 on NumPy 2.4 warns whenever it saves a network."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore that one warning, in the trainer's tests only."""
    for item in items:
        if "trainer" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings(KERAS_WARNING))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of 28 training and 14 validation faces."""
    return faces.write_zip(tmp_path_factory.mktemp("data") / "tiny.zip", faces.rows())


@pytest.fixture(scope="session")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two complete epochs of the baseline on `tiny`."""
    out = tmp_path_factory.mktemp("trained")
    assert main(fit_arguments(tiny, out)) == 0
    return out


def fit_arguments(data: Path, out: Path, *more: str) -> list[str]:
    """Two short epochs of the baseline."""
    arguments = ["fit", "--data", str(data), "--out", str(out), "--model", "baseline"]
    return [*arguments, "--epochs", "2", "--batch", "10", *more]


TINY: Final = """
[network]
kind = "residual"
outputs = ["fer2013", "consensus"]
stem = 4
stages = [[4], [6, 6]]
squeeze = 2
dropout = 0.2

[fitting]
epochs = 3
batch = 10
learning_rate = 0.05
warmup_steps = 2
weight_decay = 5e-4
average = 0.5
sizes = [[0.0, 32], [0.5, 48]]
label_smoothing = 0.1

[augmentation]
shift = 0.02
"""


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of a tiny network with all that the small one has."""
    path = tmp_path_factory.mktemp("settings") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def taught(tiny: Path, votes: Path, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a complete training of that network, with both outputs."""
    out = tmp_path_factory.mktemp("taught")
    arguments = ["fit", "--data", str(tiny), "--votes", str(votes), "--settings", str(settings)]
    assert main([*arguments, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People's votes for the faces of `tiny`, in which 10 of the 14 validation faces have a majority."""
    # Imported where it is used, as below: it loads Keras, which most of these tests do without.
    from tests.support import untrained

    return untrained.write_votes(tmp_path_factory.mktemp("votes") / "ferplus.csv", faces.rows())


@pytest.fixture(scope="session")
def two_outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model with both outputs, its card beside it."""
    from tests.support import untrained

    return untrained.write_model(tmp_path_factory.mktemp("two") / "two.keras", ["fer2013", "consensus"])


def training_data(settings: Settings, data: Path, votes: Path | None = None) -> Any:
    """The TrainingData of these files."""
    from trainer.dataset import read_dataset
    from trainer.training_data import make_training_data

    return make_training_data(settings, read_dataset(data, votes))


def ignore_step(done: int, steps: int) -> None:
    pass


def ignore_epoch(progress: Any) -> None:
    pass
