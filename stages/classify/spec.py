"""The declaration of the classify stage: it names the emotions of faces, many in one batch."""

from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.common.errors import UserError
from pipeline.common.labels import LABEL_SETS
from pipeline.common.model_card import Card, choose_labels, find_model, read_card, read_crop_shape
from pipeline.config.schema import Settings, Threads, Workers
from pipeline.config.stage import CheckLine, ProcessPlan, RunFacts, StageSpec, Step
from pipeline.wire.messages import MAX_BATCH
from stages.faces import CROPS, PROBABILITIES

Labels = Annotated[str, Meta(extra={"choices": ("auto", *LABEL_SETS)})]


class ClassifySettings(Settings, frozen=True):
    """`[classify]`: the emotion classifier."""

    model: str = "models/emotion.onnx"
    labels: Labels = "auto"
    workers: Workers = 1  # processes
    threads: Threads = 1  # of the runtime, in each process
    max_batch: Annotated[int, Meta(ge=1, le=MAX_BATCH)] = 64  # crops in one call of the model
    max_delay_ms: Annotated[float, Meta(ge=0)] = 0.0  # how long a crop may wait for others


class ClassifyOptions(msgspec.Struct, frozen=True):
    """What a classify process is given."""

    settings: ClassifySettings
    model: str  # sha256 of the model's file when the run began


def processes(run: RunFacts) -> list[ProcessPlan]:
    """Plan processes that all use the model of the run's start. Raises UserError if it is missing."""
    settings = run.settings.of(ClassifySettings)
    path = find_model(settings.model)
    options = ClassifyOptions(settings, read_card(path).sha256_of(path))
    return [
        ProcessPlan(CLASSIFY.role, CLASSIFY.module, f"classify-{number}", options, settings.threads)
        for number in range(1, settings.workers + 1)
    ]


def resolve(settings: ClassifySettings) -> tuple[ClassifySettings, list[str]]:
    """Choose whose labels are shown. Raises UserError if the model is missing or has no such output."""
    path = find_model(settings.model)
    labels = choose_labels(read_card(path), settings.labels, path)
    return msgspec.structs.replace(settings, labels=labels), [f"emotion model: {path}, labels: {labels}"]


def check(settings: ClassifySettings) -> list[CheckLine]:
    """Return the content of the model's card, which the file is checked against, and the labels shown."""
    path = find_model(settings.model)
    try:
        card = read_card(path)
        labels = choose_labels(card, settings.labels, path)
    except UserError as error:
        return [CheckLine("missing", "emotion model", str(error))]
    lines = [
        CheckLine("ok", "emotion model", f"{path}: {_card_text(card)}; sha256 and emotions are right"),
        CheckLine("ok", "labels", f"{labels}; the model has {' and '.join(card.outputs)}"),
    ]
    if missing := card.not_learned.get(labels):
        lines.append(CheckLine("note", "labels", f"the model never names {', '.join(missing)}"))
    return lines


def _card_text(card: Card) -> str:
    size, _, channels = card.input.shape
    parts = [card.name or "unnamed", f"{card.parameters:,} parameters"]
    if card.multiply_adds:
        parts.append(f"{card.multiply_adds:,} multiply-adds")
    parts.append(f"{size}x{size} {'grey' if channels == 1 else 'colour'}")
    for labels, figures in card.figures.items():
        top1 = figures.get("top1") if isinstance(figures, dict) else None
        if isinstance(top1, int | float):
            parts.append(f"{top1:.1%} right by {labels}")
    return ", ".join(parts)


def step(settings: ClassifySettings) -> Step:
    path = find_model(settings.model)
    try:
        crop_shape = read_crop_shape(path)
    except UserError:  # a machine without classifiers need not have their model
        crop_shape = CROPS.shape
    return Step(
        "classify",
        takes=CROPS.name,
        takes_shape=crop_shape,
        gives=[PROBABILITIES],
        check="stages.faces:check_probabilities",
        max_batch=settings.max_batch,
        max_delay_ms=settings.max_delay_ms,
    )


CLASSIFY = StageSpec("classify", "stages.classify.main", ClassifySettings, processes, resolve, check, step)
