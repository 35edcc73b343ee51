"""What may be chosen for a training, read from the TOML beside its network or from a file of one's own."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from pipeline.common.errors import UserError
from pipeline.common.labels import FACE_SIZE

MODELS: Final = Path(__file__).parent / "models"
"""Each network's settings lie here, under its name."""

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[int, Meta(ge=1)]
Factor = Annotated[float, Meta(ge=0, lt=1)]


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which network is built; trainer/models/ says what each number means."""

    kind: Literal["baseline", "residual"]
    outputs: tuple[Literal["fer2013", "consensus"], ...] = ("fer2013",)
    stem: Positive = 32
    """Filters of the first convolution, at 48x48."""
    stages: tuple[tuple[Positive, ...], ...] = ()
    """Filters of the residual blocks at 24x24, at 12x12, and so on."""
    squeeze: Annotated[int, Meta(ge=0)] = 0
    """By how much squeeze-and-excitation narrows; 0 leaves it out."""
    dropout: Factor = 0.5


class Fitting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the weights are found."""

    epochs: Positive = 50
    batch: Positive = 128
    optimizer: Literal["adam", "sgd"] = "sgd"
    """sgd: Nesterov's momentum of 0.9."""
    learning_rate: Annotated[float, Meta(gt=0, le=10)] = 0.1
    warmup_steps: Annotated[int, Meta(ge=0)] = 0
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: Share = 0.0
    """As the factor of an L2 penalty in the gradient; not of norms and biases."""
    average: Factor = 0.0
    """Of the weights over the steps, which is what is validated and kept; 0 leaves it out."""
    statistics: Literal["moving", "estimated"] = "moving"
    """Of batch normalisation outside training; trainer/fitting/train.py says what estimating is for."""
    keep: Literal["last", "best"] = "last"
    """The network of which epoch; best is by validation."""
    sizes: tuple[tuple[Share, Positive], ...] = ((0.0, 48),)
    """From which share of the epochs on faces are given in which size, in pixels."""
    label_smoothing: Factor = 0.0
    consensus_weight: Annotated[float, Meta(ge=0, le=100)] = 1.0
    """Of the loss of `consensus`, beside 1 for `fer2013`."""
    fewest_votes: Positive = 5
    """For the seven emotions; a picture with fewer doesn't teach `consensus`."""
    teacher_share: Share = 0.0
    """Of the teachers' probabilities in the targets, where there are teachers."""


class Augmentation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How each face is changed each time it is shown; trainer/fitting/augment.py does it."""

    rotation_degrees: Annotated[float, Meta(ge=0, le=180)] = 0.0
    shift: Share = 0.0
    """Of the face's size, along each axis."""
    shear_degrees: Annotated[float, Meta(ge=0, le=45)] = 0.0
    zoom: Factor = 0.0
    """By a factor from 1 - zoom to 1 + zoom, the same along both axes."""
    stretch: Factor = 0.0
    """As zoom, along each axis by a factor of its own."""
    flip_share: Share = 0.0
    brightness: Factor = 0.0
    """By up to this share of the face's mean."""
    contrast: Factor = 0.0
    """About the face's mean, by a factor from 1 - contrast to 1 + contrast."""
    coarse_share: Share = 0.0
    """Of the faces that are made coarse, as small ones are in a video."""
    coarse_px: tuple[Positive, Positive] = (24, 44)
    erase_share: Share = 0.0
    """Of the faces in which a rectangle is painted over."""
    erase_px: tuple[Positive, Positive] = (8, 19)


class Adjustment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By output, how much of an emotion's rarity in training is forgotten (trainer/fitting/training_data.py).

    Training is the same with any.
    """

    fer2013: Share = 0.0
    consensus: Share = 0.0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that may be chosen. The rest of what a result depends on is the data and the program."""

    name: str
    network: Network
    fitting: Fitting
    augmentation: Augmentation
    adjustment: Adjustment = Adjustment()
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    backend: Literal["tensorflow", "torch", "jax"] = "tensorflow"
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    deterministic: bool = False
    """To the bit the same on one machine, on its processor."""
    teachers: tuple[str, ...] = ()
    """sha256 of each."""
    start: str = ""
    """sha256 of the model whose weights are begun with; empty for new ones."""


def known_models() -> list[str]:
    """The names of the networks that come with the program."""
    return sorted(path.stem for path in MODELS.glob("*.toml"))


def read_settings(path: Path) -> Settings:
    """The settings in the TOML file `path`. Raises UserError for what is not known or out of bounds."""
    try:
        values = msgspec.toml.decode(path.read_bytes())
        return convert({"name": path.stem, **values}, str(path))
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected settings as in {MODELS}") from error


def convert(values: dict[str, Any], where: str) -> Settings:
    """Plain values as settings. Raises UserError naming what doesn't fit and where."""
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {told(str(error))}; mend it") from error
    check(settings, where)
    return settings


def told(message: str) -> str:
    """msgspec's message with the key in front, as in "fitting.epochs: expected `int`, got `str`"."""
    found = re.fullmatch(r"(.*) - at `\$\.?(.*)`", message)
    return f"{found[2]}: {found[1][:1].lower()}{found[1][1:]}" if found else message


def check(settings: Settings, where: str) -> None:
    """Raise UserError for values that don't go together."""
    for wrong, key, expected, found in faults(settings):
        if wrong:
            raise UserError(f"{where}: {key}: expected {expected}, found {found}; mend it")


def faults(settings: Settings) -> Iterator[tuple[bool, str, str, Any]]:
    """What could be wrong: whether it is, the key, what was expected and what was found."""
    network, fitting, augmentation = settings.network, settings.fitting, settings.augmentation
    sizes, outputs, baseline = fitting.sizes, network.outputs, network.kind == "baseline"
    rising = bool(sizes) and sizes[0][0] == 0 and list(sizes) == sorted(sizes)
    yield not rising, "fitting.sizes", "pairs that begin at 0.0 and rise", sizes
    smallest = min((size for _, size in sizes), default=FACE_SIZE)
    yield smallest < 2 ** len(network.stages), "fitting.sizes", "a pixel left after all stages", smallest
    yield not outputs or len(set(outputs)) < len(outputs), "network.outputs", "one or two", outputs
    whole = ((0.0, FACE_SIZE),)
    yield baseline and sizes != whole, "fitting.sizes", f"{whole} for the baseline", sizes
    yield baseline and outputs != ("fer2013",), "network.outputs", "fer2013 for the baseline", outputs
    for key, bounds in (("coarse_px", augmentation.coarse_px), ("erase_px", augmentation.erase_px)):
        fits = bounds[0] <= bounds[1] <= FACE_SIZE
        yield not fits, f"augmentation.{key}", f"two that rise to {FACE_SIZE} at most", bounds
    unused = fitting.optimizer == "adam" and fitting.weight_decay > 0
    yield unused, "fitting.weight_decay", "0 with adam", fitting.weight_decay
    unused = fitting.schedule == "constant" and fitting.warmup_steps > 0
    yield unused, "fitting.warmup_steps", "0 with a constant rate", fitting.warmup_steps


def change(settings: Settings, changes: dict[str, Any]) -> Settings:
    """`settings` with other values by key, as in {"fitting.epochs": 3}. Raises UserError."""
    values: dict[str, Any] = msgspec.to_builtins(settings)
    for key, value in changes.items():
        *tables, last = key.split(".")
        table = values
        for name in tables:
            table = table.get(name, {}) if isinstance(table, dict) else {}
        if not isinstance(table, dict) or last not in table:
            raise UserError(f"{key}: no such setting; expected one of those in {MODELS}")
        table[last] = value
    return convert(values, "settings")


def parse_change(text: str) -> tuple[str, Any]:
    """`table.key=value`, the value as TOML has it, as key and value. Raises UserError."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {text}: expected table.key=value, as in fitting.learning_rate=0.05")
    try:
        return key, msgspec.toml.decode(f"value = {value}")["value"]
    except msgspec.DecodeError as error:
        raise UserError(f"--set {text}: expected a value as TOML has it, found {value} ({error})") from error


def size_in(fitting: Fitting, number: int) -> int:
    """The size of the faces, in pixels, in the epoch `number`, which counts from 1."""
    share = (number - 1) / fitting.epochs
    return [size for start, size in fitting.sizes if start <= share][-1]
