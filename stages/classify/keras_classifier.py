"""The emotion model on Keras and TensorFlow, for whoever has them and names a .keras file.

Files are not trusted: Keras' `safe_mode` alone does not keep a .keras file from running code. So only known
parts are accepted: the three members that Keras writes, of bounded size, and layers that only compute.
"""

import io
import json
import math
import re
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError, first_line
from pipeline.common.labels import EMOTIONS
from pipeline.common.model_card import Card
from pipeline.common.native_output import quiet_native

MEMBERS: Final = {"metadata.json": 1 << 16, "config.json": 1 << 21, "model.weights.h5": 1 << 28}
"""The members of a file, and the most bytes of each unpacked. The tutorial's network has 15 kB of config and
2 MB of weights."""

LARGEST_NUMBER: Final = 1 << 20
"""In the config: more than any number of filters, units or pixels."""

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
"""Left out are those that contain code (Lambda) or pickles (JaxLayer), or load other files (TFSMLayer,
TorchModuleWrapper, lookups with a vocabulary)."""

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


class Refused(Exception):  # noqa: N818 - said of what happens to the file
    """Why a file is not loaded, in one line."""


def check_model_file(data: bytes) -> bytes:
    """Check a .keras file of content `data`; return its weights, an HDF5 file. Raises Refused."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_members(archive)
            config, weights = archive.read("config.json"), archive.read("model.weights.h5")
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        # What a broken archive raises: NotImplementedError and RuntimeError for kinds that are not known.
        raise Refused(f"it is not a complete .keras file ({error})") from error
    try:
        _check_config(json.loads(config))
    except (ValueError, RecursionError) as error:
        raise Refused(f"its config.json is not JSON ({error})") from error
    return weights


def _check_members(archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if sorted(member.filename for member in members) != sorted(MEMBERS):
        found = ", ".join(repr(member.filename[:80]) for member in members[:8])
        raise Refused(f"it holds {len(members)} members ({found}), not {', '.join(sorted(MEMBERS))}")
    for member in members:
        if member.file_size > MEMBERS[member.filename]:
            raise Refused(
                f"{member.filename} is {member.file_size:,} bytes when unpacked, "
                f"at most {MEMBERS[member.filename]:,} are accepted",
            )


def _check_config(config: Any) -> None:
    if not isinstance(config, dict):
        raise Refused("its config.json is not that of a model")
    # compile_config is for training alone, and is not loaded.
    waiting: list[Any] = [{key: value for key, value in config.items() if key != "compile_config"}]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            _check_class(part)
            waiting += [value for key, value in part.items() if key not in _ANY_NUMBER]
        elif isinstance(part, int | float) and abs(part) > LARGEST_NUMBER:
            raise Refused(f"its config holds the number {part:g}, at most {LARGEST_NUMBER:,} is accepted")


def _check_class(part: dict[str, Any]) -> None:
    """Refuse a class that is not known: Keras makes an object of every dict with a class_name."""
    if "class_name" not in part:
        return
    name, module = part["class_name"], part.get("module")
    allowed = _ALLOWED.get(module, frozenset()) if isinstance(module, str | None) else frozenset()
    known = isinstance(name, str) and (
        name in allowed if isinstance(allowed, frozenset) else allowed.fullmatch(name) is not None
    )
    if not known:
        raise Refused(f"its config names {str(module)[:80]}.{str(name)[:80]}, which is not a known layer")
    if part.get("registered_name") not in (None, name):
        raise Refused(f"its config registers {name} as {str(part['registered_name'])[:80]!r}")


MOST_OBJECTS: Final = 20_000
"""Groups and arrays in the weights; the tutorial's network has some 60."""

_NUMBERS: Final = "fiub"


def check_weights(data: bytes) -> None:
    """Raise Refused unless `data`, the HDF5 file of a model, holds arrays of numbers alone."""
    import h5py  # which comes with Keras

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            _walk(file)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # what h5py raises
        raise Refused(f"its weights can't be read ({first_line(error)})") from error


def _walk(file: Any) -> None:
    """Check all groups: each link must be a hard one, each array must hold numbers, stored in this file."""
    import h5py

    waiting, objects, held = [file], 0, 0
    while waiting:
        group = waiting.pop()
        for name in group:
            objects += 1
            if objects > MOST_OBJECTS:  # links can also form a loop
                raise Refused(f"its weights hold more than {MOST_OBJECTS:,} groups and arrays")
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise Refused(f"its weights hold the {type(link).__name__} {name!r}, which points elsewhere")
            found = group[name]
            if isinstance(found, h5py.Group):
                waiting.append(found)
            else:
                held += _check_array(name, found)
                if held > MEMBERS["model.weights.h5"]:
                    raise Refused(f"its weights claim more than {MEMBERS['model.weights.h5']:,} bytes")


def _check_array(name: str, found: Any) -> int:
    """Return the bytes of an array. Raises Refused for anything else."""
    import h5py

    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in _NUMBERS or found.shape is None:
        raise Refused(f"its weights hold {name!r}, which is no array of numbers")
    if found.is_virtual or found.external:
        raise Refused(f"its weights hold {name!r}, whose numbers are in another file")
    if found.id.get_create_plist().get_nfilters():
        raise Refused(f"its weights hold {name!r}, which is compressed")
    return int(math.prod(found.shape) * found.dtype.itemsize)


OUTPUT_SHAPE: Final = (None, len(EMOTIONS))
SHOWN: Final = 80
"""Characters of a file's own text that an error repeats."""


def output_of(model: Any, labels: str, card: Card, path: Path) -> Any:
    """Return the Keras model that computes the output for `labels` of the one from `path`, and no more.

    Raises UserError if the model has other outputs than its card says, or if its input or any output has
    another shape: uint8 faces, as (None, 48, 48, 1), in, (None, 7) out.
    """
    import keras  # takes seconds, like TensorFlow

    sequential = isinstance(model, keras.Sequential)  # which has no `output` before it is first called
    found = model.outputs if sequential else model.output
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    # A single tensor is the form of models that know FER2013's labels alone.
    outputs = found if isinstance(found, dict) else {"fer2013": found}
    if set(outputs) != set(card.outputs):
        raise UserError(
            f"{path}: outputs {', '.join(card.outputs)} expected, as its card says, "
            f"{', '.join(outputs)[:SHOWN]!r} found; take model and card from the same place"
        )
    faces, expected = getattr(model, "input_shape", None), (None, *card.input.shape)
    for name, output in outputs.items():
        shape = getattr(output, "shape", type(output).__name__)
        if (faces, shape) != (expected, OUTPUT_SHAPE):
            raise UserError(
                f"{path}: a model from {expected} to {OUTPUT_SHAPE} is expected, "
                f"one from {str(faces)[:SHOWN]} to {str(shape)[:SHOWN]} found, output {name}"
            )
    return model if sequential else keras.Model(model.input, outputs[labels])


class KerasClassifier:
    """See Classifier."""

    def __init__(
        self, path: Path, data: bytes, card: Card, labels: str, threads: int, fingerprint: str
    ) -> None:
        """data: the file's content. labels: the output to use.

        threads: of TensorFlow; 0 leaves the choice to it. Raises UserError if TensorFlow is not installed, or
        the model can't be loaded or has another input or other outputs.
        """
        if find_spec("tensorflow") is None:
            raise UserError(
                f"{path}: a .keras model needs TensorFlow: pip install -r requirements-train.txt, "
                "or set classify.model to the .onnx file beside it"
            )
        self.fingerprint, self.crop_shape = fingerprint, card.crop_shape
        self._shape = tuple(card.input.shape)
        try:
            weights = check_model_file(data)
            with quiet_native():
                import tensorflow as tf

                tf.config.threading.set_intra_op_parallelism_threads(threads)
                tf.config.threading.set_inter_op_parallelism_threads(1)
                model = output_of(_load(data, weights), labels, card, path)
                self._run = _compile(tf, model, self._shape)
                self(np.zeros((1, *self.crop_shape), np.uint8))
        except Refused as error:
            expected = "expected a model as `python -m trainer fit` saves it"
            raise UserError(f"{path}: refused: {error}; {expected}") from error
        except UserError:
            raise
        except Exception as error:  # Keras raises nearly anything over known layers that don't fit together
            raise UserError(f"{path}: can't be loaded as a Keras model: {first_line(error)}") from error

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See Classifier."""
        return np.asarray(self._run(crops.reshape(len(crops), *self._shape)), np.float32)


def _load(data: bytes, weights: bytes) -> Any:
    """Load the model from the bytes that were checked: the file may have changed since."""
    from keras.src.saving import saving_lib  # keras.saving takes paths alone

    check_weights(weights)
    return saving_lib.load_model(io.BytesIO(data), compile=False, safe_mode=True)


def _compile(tf: Any, model: Any, shape: tuple[int, ...]) -> Any:
    """Trace the model for any number of faces; the function that is returned takes uint8 (n, *shape)."""
    signature = [tf.TensorSpec((None, *shape), tf.uint8)]
    function = tf.function(lambda faces: model(faces, training=False), input_signature=signature)
    concrete = function.get_concrete_function()
    return lambda faces: concrete(tf.constant(faces)).numpy()
