"""The weights in a .keras file, an HDF5 file, looked through before they are loaded.

HDF5 can point outside: to other files by external links, virtual datasets and external storage; and it can
claim arrays of any size without storing them.
"""

import io
import math
from pathlib import Path
from typing import Any, Final

import h5py

from pipeline.errors import first_line
from stages.classify.model_file import MEMBERS, Refused

MOST_OBJECTS: Final = 20_000
"""Groups and arrays; the tutorial's network has some 60."""

_NUMBERS: Final = "fiub"


def check_weights(path: Path, data: bytes) -> None:
    """Look through the HDF5 file `data` of the model `path`. Raises UserError."""
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            _walk(path, file)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # what h5py raises
        raise Refused(path, f"its weights can't be read ({first_line(error)})") from error


def _walk(path: Path, file: Any) -> None:
    """Go through all groups: every link is a plain one, every array holds numbers and stores them here."""
    waiting, objects, held = [file], 0, 0
    while waiting:
        group = waiting.pop()
        for name in group:
            objects += 1
            if objects > MOST_OBJECTS:  # a loop of links as well
                raise Refused(path, f"its weights hold more than {MOST_OBJECTS:,} groups and arrays")
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise Refused(
                    path, f"its weights hold the {type(link).__name__} {name!r}, which points elsewhere"
                )
            found = group[name]
            if isinstance(found, h5py.Group):
                waiting.append(found)
            else:
                held += _check_array(path, name, found)
                if held > MEMBERS["model.weights.h5"]:
                    raise Refused(path, f"its weights claim more than {MEMBERS['model.weights.h5']:,} bytes")


def _check_array(path: Path, name: str, found: Any) -> int:
    """Return the bytes of an array. Raises UserError for anything else."""
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in _NUMBERS or found.shape is None:
        raise Refused(path, f"its weights hold {name!r}, which is no array of numbers")
    if found.is_virtual or found.external:
        raise Refused(path, f"its weights hold {name!r}, whose numbers are in another file")
    if found.id.get_create_plist().get_nfilters():
        raise Refused(path, f"its weights hold {name!r}, which is packed")
    return int(math.prod(found.shape) * found.dtype.itemsize)
