"""What the tutorial's loop needs besides requirements.txt; looked for before anything runs."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pipeline.card import find_model, read_card
from pipeline.errors import UserError
from pipeline.settings import PipelineSettings

PACKAGES: Final = ("tensorflow", "keras")


def keras_model(settings: PipelineSettings) -> Path:
    """Return the .keras file of the emotion model: the one that is set, or the one beside it."""
    return find_model(settings.classify.model).with_suffix(".keras")


def check_tutorial(settings: PipelineSettings) -> None:
    """Raise UserError unless the tutorial's loop can run."""
    for package in PACKAGES:
        if find_spec(package) is None:
            raise UserError(
                f"bench: the tutorial's loop needs {package}: pip install -r requirements-train.txt, "
                "or leave that loop out with --without-tutorial"
            )
    path = keras_model(settings)
    if not path.is_file():
        raise UserError(
            f"bench: the tutorial's loop needs the model as a Keras file, and there is no {path}; "
            "leave that loop out with --without-tutorial"
        )
    read_card(path)
