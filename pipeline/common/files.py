"""The project's folder and its machine; files that are written whole or not at all."""

import contextlib
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pipeline.common.errors import UserError

_CODE: Final = Path(__file__).resolve().parents[2]
"""The folder of pipeline/ and stages/."""

INSTALLED: Final = not (_CODE / "run.py").is_file()
"""Whether this is an installed package and not a checkout."""

PROJECT: Final = _CODE / "pipeline" / "installed" if INSTALLED else _CODE
"""The folder of pipeline.toml and models/, which setup.py copies into the package."""

COMMAND: Final = "emotions" if INSTALLED else "python run.py"
"""How to call the command line, for messages."""

UNFINISHED: Final = ".unfinished-"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to, and move it to `path` once the block succeeds.

    After a kill at any moment there is the old file or the new one. Raises UserError if it can't be written.
    """
    # It has the same suffix, by which Keras and matplotlib choose the format.
    temporary = path.with_name(UNFINISHED + path.name)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # it was never created
            temporary.unlink(missing_ok=True)


def clear_unfinished(folder: Path) -> None:
    """Remove the temporary files that a killed run left in `folder`."""
    for file in folder.glob(f"{UNFINISHED}*"):
        file.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all. Raises UserError if it can't be written."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def same_file(one: str | Path, other: str | Path) -> bool:
    """Return whether two paths are of the same existing file."""
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


def make_folder(path: Path) -> None:
    """Create the folder `path` and its parents unless it exists. Raises UserError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be created ({error.strerror}); choose another place") from error


def processor() -> str:
    """Return the name of the processor, for figures that are measured on it."""
    named = re.compile(r"^model name\s*: (.+)$", re.MULTILINE)
    with contextlib.suppress(OSError):  # not Linux
        if found := named.search(Path("/proc/cpuinfo").read_text(encoding="utf-8")):
            return found[1].strip()
    return platform.processor() or platform.machine()


def python_path() -> str:
    """Return a PYTHONPATH with which another interpreter finds the same code; a checkout comes first."""
    inherited = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(part for part in ("" if INSTALLED else str(_CODE), inherited) if part)


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex. Raises UserError if it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
