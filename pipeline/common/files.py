"""Where the project lies, and files that are whole or not there at all."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pipeline.common.errors import UserError

PROJECT: Final = Path(__file__).resolve().parents[2]
"""The folder of run.py, pipeline.toml and models/."""

UNFINISHED: Final = ".unfinished-"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` once the block ends well.

    A kill at any moment leaves the old file or the new one, never half of one. Raises UserError if it can't
    be written.
    """
    # The suffix stays at the end: Keras and matplotlib choose the format by it.
    temporary = path.with_name(UNFINISHED + path.name)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # where it could not even be made
            temporary.unlink(missing_ok=True)


def clear_unfinished(folder: Path) -> None:
    """Remove what a killed run was writing in `folder`."""
    for file in folder.glob(f"{UNFINISHED}*"):
        file.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, whole or not at all. Raises UserError if it can't be written."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def make_folder(path: Path) -> None:
    """Make the folder `path` unless it is there. Raises UserError if it can't be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be made a folder ({error.strerror}); choose another place"
        ) from error


def sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex. Raises UserError if it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); give one that can be"
        ) from error
