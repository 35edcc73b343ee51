"""The settings of a training, read from the TOML file of a network or from one of the user's."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from pipeline.common.errors import UserError
from pipeline.common.labels import FACE_SIZE

MODELS: Final = Path(__file__).parent / "models"
"""Folder of the settings that come with the program, one TOML file a network."""

BACKENDS: Final = {"tensorflow": "requirements-train.txt", "torch": "requirements-torch.txt"}
"""Keras's backends, and the requirements file of each."""

APPLIED_AFTERWARDS: Final = ("adjustment.", "confidence.")
"""Start of the keys that do not affect training: they are applied to the trained network."""

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[int, Meta(ge=1)]
Factor = Annotated[float, Meta(ge=0, lt=1)]


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The network, built by networks.py."""

    kind: Literal["baseline", "residual"]
    outputs: tuple[Literal["fer2013", "consensus"], ...] = ("fer2013",)
    stem: Positive = 32
    """Filters of the first convolution, at 48x48."""
    stages: tuple[tuple[Positive, ...], ...] = ()
    """Filters of the residual blocks at 24x24, at 12x12, and so on."""
    squeeze: Annotated[int, Meta(ge=0)] = 0
    """Reduction ratio of squeeze-and-excitation; 0 leaves it out."""
    dropout: Factor = 0.5


class Fitting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the weights are trained."""

    epochs: Positive = 50
    batch: Positive = 128
    optimizer: Literal["adam", "sgd"] = "sgd"
    """sgd uses Nesterov momentum of 0.9."""
    learning_rate: Annotated[float, Meta(gt=0, le=10)] = 0.1
    warmup_steps: Annotated[int, Meta(ge=0)] = 0
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: Share = 0.0
    """Factor of an L2 penalty in the gradient; norms and biases are exempt."""
    average: Factor = 0.0
    """Decay, by step, of the moving average of the weights that is validated and kept; 0 leaves it out."""
    statistics: Literal["moving", "estimated"] = "moving"
    """Batch normalisation at inference: moving averages, or estimated after each epoch (train.py)."""
    keep: Literal["last", "best"] = "last"
    """Which epoch's network to keep; best is the highest top-1 on validation."""
    sizes: tuple[tuple[Share, Positive], ...] = ((0.0, 48),)
    """(share of the epochs, pixels): from that share of the epochs on, faces are resized to that size."""
    label_smoothing: Factor = 0.0
    balance: Share = 0.0
    """Share of the log prior that the loss adds to the logits, and so isn't learned (balanced softmax)."""
    fewest_votes: Positive = 5
    """Pictures with fewer votes for the seven emotions do not train `consensus`."""
    teacher_share: Share = 0.0
    """Share of the teachers' probabilities in the targets, if there are teachers."""


class Augmentation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Random changes of each face in each epoch, made by augment.py."""

    rotation_degrees: Annotated[float, Meta(ge=0, le=180)] = 0.0
    shift: Share = 0.0
    """Share of the face's size, along each axis."""
    shear_degrees: Annotated[float, Meta(ge=0, le=45)] = 0.0
    zoom: Factor = 0.0
    """By a factor from 1 - zoom to 1 + zoom, the same along both axes."""
    stretch: Factor = 0.0
    """As zoom, with a factor of its own for each axis."""
    flip_share: Share = 0.0
    brightness: Factor = 0.0
    """By up to this share of the face's mean."""
    contrast: Factor = 0.0
    """About the face's mean, by a factor from 1 - contrast to 1 + contrast."""
    erase_share: Share = 0.0
    """Share of the faces in which a rectangle is painted over."""
    erase_px: tuple[Positive, Positive] = (8, 19)
    squeeze_share: Share = 0.0
    """Share of the faces that are made narrower, as those of turned heads are."""
    squeeze: Factor = 0.28
    """To a width of 1 - squeeze at least."""


class Degradation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a camera does to some of the faces in each epoch, made by augment.py."""

    coarse_share: Share = 0.0
    """Share of the faces that are resized down and up again, like small faces in a video."""
    coarse_px: tuple[Positive, Positive] = (24, 44)
    gamma_share: Share = 0.0
    """Share of the faces whose greys are raised to a power from 1 / gamma to gamma."""
    gamma: Annotated[float, Meta(ge=1, le=10)] = 2.2
    side_light_share: Share = 0.0
    """Share of the faces that are lit from a side, of any direction."""
    side_light: Factor = 0.7
    """By up to this share brighter at one edge, and darker at the other."""
    blur_share: Share = 0.0
    blur_px: tuple[Annotated[float, Meta(gt=0)], Annotated[float, Meta(gt=0)]] = (0.5, 1.5)
    """Standard deviation of the Gaussian."""
    jpeg_share: Share = 0.0
    jpeg_quality: tuple[Positive, Positive] = (15, 60)


class Adjustment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Strength of logit adjustment by output, applied to the trained network (training_data.py)."""

    fer2013: Share = 0.0
    consensus: Share = 0.0
    refit: Share = 0.0
    """Share of the log prior with which the last layer of `consensus` is fitted again (artifacts.py); 0
    leaves it as it was trained."""
    mix: Factor = 0.0
    """Share of the logits of `fer2013` in those of `consensus`, which calls fewer faces neutral so."""


class Confidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the temperatures are fitted, on half of validation (metrics.py)."""

    degraded: bool = False
    """On pictures as video shows them, not as they are."""
    fer2013: Factor = 0.0
    """By how much mean confidence stays below accuracy there: on other faces it is higher than accuracy."""
    consensus: Factor = 0.0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of a training. A result depends on these, the data and the program."""

    name: str
    network: Network
    fitting: Fitting
    augmentation: Augmentation
    degradation: Degradation = Degradation()
    adjustment: Adjustment = Adjustment()
    confidence: Confidence = Confidence()
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    backend: Literal["tensorflow", "torch"] = "tensorflow"
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    deterministic: bool = False
    """Whether results are the same to the bit on one machine."""
    teachers: tuple[str, ...] = ()
    """sha256 of each teacher."""
    start: str = ""
    """sha256 of the model that provides the initial weights; empty for random ones."""


def known_models() -> list[str]:
    """Return the names of the networks that come with the program."""
    return sorted(path.stem for path in MODELS.glob("*.toml"))


def read_settings(path: Path) -> Settings:
    """Return the settings in a TOML file. Raises UserError for unknown keys and values out of bounds."""
    try:
        values = msgspec.toml.decode(path.read_bytes())
        return convert({"name": path.stem, **values}, str(path))
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected settings as in {MODELS}") from error


def convert(values: dict[str, Any], where: str) -> Settings:
    """Return plain values as settings. Raises UserError naming `where` and the key that is wrong."""
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        # The key goes first: "fitting.epochs: expected `int`, got `str`".
        reason = re.sub(r"(.)(.*) - at `\$\.?(.*)`", lambda m: f"{m[3]}: {m[1].lower()}{m[2]}", str(error))
        raise UserError(f"{where}: {reason}") from error
    for wrong, key, expected, found in _conflicts(settings):
        if wrong:
            raise UserError(f"{where}: {key}: expected {expected}, found {found}")
    return settings


def to_json(settings: Settings) -> dict[str, Any]:
    """Return `settings` as plain JSON: nested dicts, lists and numbers."""
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(settings))
    return values


def _conflicts(settings: Settings) -> Iterator[tuple[bool, str, str, Any]]:
    """Yield what types can't check: whether it is wrong, the key, expected, found."""
    network, fitting = settings.network, settings.fitting
    sizes, outputs, baseline = fitting.sizes, network.outputs, network.kind == "baseline"
    rising = bool(sizes) and sizes[0][0] == 0 and list(sizes) == sorted(sizes)
    yield not rising, "fitting.sizes", "pairs that begin at 0.0 and rise", sizes
    smallest = min((size for _, size in sizes), default=FACE_SIZE)
    yield smallest < 2 ** len(network.stages), "fitting.sizes", "a pixel left after all stages", smallest
    yield not outputs or len(set(outputs)) < len(outputs), "network.outputs", "one or two", outputs
    unmixed = settings.adjustment.mix > 0 and len(outputs) < 2
    yield unmixed, "adjustment.mix", "0 without both outputs", settings.adjustment.mix
    unknown = settings.adjustment.refit > 0 and "consensus" not in outputs
    yield unknown, "adjustment.refit", "0 without the output consensus", settings.adjustment.refit
    whole = ((0.0, FACE_SIZE),)
    yield baseline and sizes != whole, "fitting.sizes", f"{whole} for the baseline", sizes
    yield baseline and outputs != ("fer2013",), "network.outputs", "fer2013 for the baseline", outputs
    degradation = settings.degradation
    for key, bounds, most in (
        ("augmentation.erase_px", settings.augmentation.erase_px, FACE_SIZE),
        ("degradation.coarse_px", degradation.coarse_px, FACE_SIZE),
        ("degradation.blur_px", degradation.blur_px, 10),
        ("degradation.jpeg_quality", degradation.jpeg_quality, 100),
    ):
        yield not bounds[0] <= bounds[1] <= most, key, f"two that rise to {most} at most", bounds
    unused = fitting.optimizer == "adam" and fitting.weight_decay > 0
    yield unused, "fitting.weight_decay", "0 with adam", fitting.weight_decay
    unused = fitting.schedule == "constant" and fitting.warmup_steps > 0
    yield unused, "fitting.warmup_steps", "0 with a constant rate", fitting.warmup_steps


def change(settings: Settings, changes: dict[str, Any]) -> Settings:
    """Return `settings` with other values by key, as in {"fitting.epochs": 3}. Raises UserError."""
    values = to_json(settings)
    for key, value in changes.items():
        *tables, last = key.split(".")
        table: Any = values
        for name in tables:
            table = table.get(name, {}) if isinstance(table, dict) else {}
        if not isinstance(table, dict) or last not in table:
            raise UserError(f"{key}: no such setting; see the files in {MODELS}")
        table[last] = value
    return convert(values, "settings")


def parse_change(text: str) -> tuple[str, Any]:
    """Return key and value of `table.key=value`, the value in TOML. Raises UserError."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {text}: expected table.key=value, as in fitting.learning_rate=0.05")
    try:
        return key, msgspec.toml.decode(f"value = {value}")["value"]
    except msgspec.DecodeError as error:
        raise UserError(f"--set {text}: expected a value as TOML has it, found {value} ({error})") from error


def face_size(fitting: Fitting, epoch: int) -> int:
    """Return the size of the faces in an epoch (counted from 1), in pixels."""
    share = (epoch - 1) / fitting.epochs
    return [size for start, size in fitting.sizes if start <= share][-1]
