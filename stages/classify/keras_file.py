"""A .keras file, looked through before anything of it is loaded: a stranger's model must not run code.

Keras refuses much by itself (`safe_mode`). Here it is decided what is accepted rather than what is not: the
three members that Keras writes, of bounded size, and layers that are known to do nothing but compute.
"""

import io
import json
import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import h5py

from pipeline.common.errors import UserError, first_line

MEMBERS: Final = {"metadata.json": 1 << 16, "config.json": 1 << 21, "model.weights.h5": 1 << 28}
"""Bytes that each may have unpacked. The tutorial's network has 15 kB of config and 2 MB of weights."""

LARGEST_NUMBER: Final = 1 << 20
"""In the config: of filters, units or pixels there are never as many."""

_ANY_NUMBER: Final = ("seed", "shared_object_id")

LAYERS: Final = frozenset((
    "InputLayer", "Rescaling", "Normalization", "Dense", "EinsumDense", "Conv1D", "Conv2D",
    "Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D", "MaxPooling2D", "AveragePooling2D",
    "GlobalMaxPooling2D", "GlobalAveragePooling2D", "AdaptiveAveragePooling2D", "AdaptiveMaxPooling2D",
    "BatchNormalization", "LayerNormalization", "GroupNormalization", "UnitNormalization",
    "RMSNormalization", "Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "Identity",
    "Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "AlphaDropout",
    "ActivityRegularization", "Flatten", "Reshape", "Permute", "RepeatVector", "ZeroPadding2D",
    "Cropping2D", "UpSampling2D", "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum",
    "Concatenate", "Dot", "Resizing", "CenterCrop", "RandomFlip", "RandomRotation", "RandomTranslation",
    "RandomZoom", "RandomContrast", "RandomBrightness", "RandomCrop", "RandomErasing",
    "MultiHeadAttention", "Attention",
))  # fmt: skip
"""Left out on purpose are those that carry code (Lambda), load other files (TFSMLayer, TorchModuleWrapper,
lookups with a vocabulary) or hold pickles (JaxLayer)."""

_CLASS: Final = re.compile(r"[A-Z]\w*")
_OPERATIONS: Final = frozenset(("Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum", "Mean"))
_ALLOWED: Final[dict[str | None, frozenset[str] | re.Pattern[str]]] = {
    None: frozenset(("__keras_tensor__",)),
    "keras": frozenset(("Sequential", "Functional", "DTypePolicy")),
    "keras.src.models.functional": frozenset(("Functional",)),
    "keras.layers": LAYERS,
    "keras.initializers": _CLASS,
    "keras.regularizers": _CLASS,
    "keras.constraints": _CLASS,
    "keras.src.ops.numpy": _OPERATIONS,
}
"""Classes by the module that a config names for them."""


class Refused(UserError):  # noqa: N818 - said of what happens to the file
    """The file is not one that is loaded, told in one line."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: refused: {reason}; expected a model as `python -m trainer fit` saves it")


def check_model_file(path: Path, data: bytes) -> bytes:
    """Look through a .keras file of content `data`; return its weights, an HDF5 file. Raises UserError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_members(path, archive)
            config, weights = archive.read("config.json"), archive.read("model.weights.h5")
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        # What a broken archive raises: NotImplementedError and RuntimeError for kinds that are not known.
        raise Refused(path, f"it is no whole .keras file ({error})") from error
    try:
        _check_config(path, json.loads(config))
    except (ValueError, RecursionError) as error:
        raise Refused(path, f"its config.json is no JSON ({error})") from error
    return weights


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if sorted(member.filename for member in members) != sorted(MEMBERS):
        found = ", ".join(repr(member.filename[:80]) for member in members[:8])
        raise Refused(path, f"it holds {len(members)} members ({found}), not {', '.join(sorted(MEMBERS))}")
    for member in members:
        if member.file_size > MEMBERS[member.filename]:
            raise Refused(
                path,
                f"{member.filename} is {member.file_size:,} bytes when unpacked, "
                f"at most {MEMBERS[member.filename]:,} are taken",
            )


def _check_config(path: Path, config: Any) -> None:
    if not isinstance(config, dict):
        raise Refused(path, "its config.json is not that of a model")
    # What it was compiled with serves training alone, and is not loaded.
    waiting: list[Any] = [{key: value for key, value in config.items() if key != "compile_config"}]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            _check_class(path, part)
            waiting += [value for key, value in part.items() if key not in _ANY_NUMBER]
        elif isinstance(part, int | float) and abs(part) > LARGEST_NUMBER:
            raise Refused(path, f"its config holds the number {part:g}, at most {LARGEST_NUMBER:,} is taken")


def _check_class(path: Path, part: dict[str, Any]) -> None:
    """Every dict with a class_name is something that Keras would make."""
    if "class_name" not in part:
        return
    name, module = part["class_name"], part.get("module")
    allowed = _ALLOWED.get(module, frozenset()) if isinstance(module, str | None) else frozenset()
    known = isinstance(name, str) and (
        name in allowed if isinstance(allowed, frozenset) else allowed.fullmatch(name) is not None
    )
    if not known:
        raise Refused(
            path, f"its config names {str(module)[:80]}.{str(name)[:80]}, which is not a known layer"
        )
    if part.get("registered_name") not in (None, name):
        raise Refused(path, f"its config registers {name} as {str(part['registered_name'])[:80]!r}")


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
