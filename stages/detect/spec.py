"""The declaration of the detect stage: it finds the faces of a frame and cuts them out."""

import hashlib
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from pipeline.config.schema import MAX_WORKERS, Fraction, Natural, Positive, Settings, Threads
from pipeline.config.stage import CheckLine, ProcessPlan, RunFacts, StageSpec, Step, cores
from pipeline.wire.messages import MAX_ITEMS
from stages.faces import BOXES, CROPS, SCORES

YUNET: Final = Path("models/face_detector.onnx")
"""The project's own, from its directory."""


class DetectorKind(NamedTuple):
    """A detector's class, which is called with the settings and the path of its model file."""

    module: str
    name: str
    own_file: Path | None = None  # from the project's directory, with a card beside it


DETECTORS: Final = {
    "yunet": DetectorKind("stages.detect.yunet", "YuNetDetector", YUNET),
    "haar": DetectorKind("stages.detect.haar", "HaarDetector"),
    "cropped": DetectorKind("stages.detect.detector", "WholeFrame"),
}
"""By the word in `detect.model`; the module is imported when it is chosen."""

EXPECTED: Final = f"{', '.join(DETECTORS)} or the path of a YuNet .onnx file"


class DetectorChoice(NamedTuple):
    """The detector, and its file if it has one."""

    kind: str
    path: Path | None


class _Card(msgspec.Struct, frozen=True):
    """What is read of the card beside the project's own model files."""

    sha256: str


def resolve_model(model: str, root: Path = PROJECT) -> DetectorChoice:
    """Return the detector for a word of DETECTORS or the path of a YuNet file.

    Raises UserError if the file is missing, or is the project's own and differs from its card.
    """
    if model in DETECTORS:
        own_file = DETECTORS[model].own_file
        return DetectorChoice(model, own_file and _checked(root / own_file))
    path = Path(model)
    try:
        is_file = path.is_file()
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        raise UserError(f"detect.model: {model!r}: {error.strerror}") from error
    if not is_file:
        raise UserError(f"detect.model: {EXPECTED} expected, and there is no file {model!r}")
    return DetectorChoice("yunet", path)


def _checked(path: Path) -> Path:
    """Return `path` if the file there is the one that its card describes, else raise UserError."""
    card = path.with_suffix(".json")
    try:
        expected = msgspec.json.decode(card.read_bytes(), type=_Card).sha256
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        said = f"{error.filename}: {error.strerror}; it comes with the project"
        raise UserError(f"detect.model: {said}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"detect.model: {card}: not the card of a detector: {error}") from error
    if found != expected:
        raise UserError(
            f"detect.model: {path}: not the file of {card}: "
            f"sha256 {expected[:12]}… expected, {found[:12]}… found; get both from the project again"
        )
    return path


class DetectSettings(Settings, frozen=True):
    """`[detect]`: the face detector."""

    model: str = "yunet"  # yunet | haar | cropped | the path of a YuNet .onnx file
    workers: Annotated[int, Meta(ge=0, le=MAX_WORKERS)] = 0  # processes; 0: one for each core
    threads: Threads = 1  # of each process, for OpenCV and ONNX Runtime
    score_threshold: Fraction = 0.6  # YuNet: the least score of a face
    nms_threshold: Fraction = 0.3  # YuNet: boxes that overlap more are one face
    max_side: Positive = 1280  # px; YuNet: a longer frame is searched in a smaller copy
    haar_scale: Annotated[float, Meta(gt=1.0)] = 1.1  # Haar: step between sizes searched
    haar_neighbours: Natural = 5  # Haar: hits that must agree on a face
    min_face_px: Positive = 30  # Haar: the least width of a face
    search_interval_ms: Annotated[float, Meta(ge=0)] = 150.0  # live: how often the whole frame is searched
    max_faces: Annotated[int, Meta(ge=1, le=MAX_ITEMS)] = (
        256  # faces kept of one frame, the most certain ones
    )


class DetectOptions(msgspec.Struct, frozen=True):
    """What a detect process is given."""

    settings: DetectSettings
    crop_shape: tuple[int, ...] = CROPS.shape  # (size, size) grey or (size, size, 3) RGB


def processes(run: RunFacts) -> list[ProcessPlan]:
    settings = run.settings.of(DetectSettings)
    shapes = [array.shape for step in run.steps for array in step.gives if array.name == CROPS.name]
    options = DetectOptions(settings, *shapes)
    return [
        ProcessPlan(DETECT.role, DETECT.module, f"detect-{number}", options, settings.threads)
        for number in range(1, (settings.workers or min(cores(), MAX_WORKERS)) + 1)
    ]


def resolve(settings: DetectSettings) -> tuple[DetectSettings, list[str]]:
    """Raise UserError if the detector's file is not there."""
    resolve_model(settings.model)
    return settings, []


def check(settings: DetectSettings) -> list[CheckLine]:
    """Return which detector `detect.model` is; the project's own is checked against its card."""
    try:
        choice = resolve_model(settings.model)
    except UserError as error:
        return [CheckLine("missing", "detector", str(error))]
    if choice.path is None:
        return [CheckLine("ok", "detector", choice.kind)]
    if settings.model != choice.kind:
        no_card = "there is no card to check it against"
        return [CheckLine("note", "detector", f"{choice.kind}: {choice.path}; {no_card}")]
    return [CheckLine("ok", "detector", f"{choice.kind}: {choice.path}; sha256 is right")]


def step(settings: DetectSettings) -> Step:
    return Step(
        "detect",
        gives=[BOXES, SCORES, CROPS],
        check="stages.faces:check_boxes",
        recall=BOXES.name,
        recall_ms=settings.search_interval_ms,
    )


DETECT = StageSpec("detect", "stages.detect.main", DetectSettings, processes, resolve, check, step)
