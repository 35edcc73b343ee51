"""`python run.py bench`: the pipeline against the tutorial's loop and against a plain one."""

import signal
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec

from bench.document import make_document, plot_batches, plot_crowds, show, throughput, write_document
from bench.job import ClipInfo, check_tutorial, describe, run_job
from bench.measure import TUTORIAL_FRAMES, Measured, Scene, make_scene, measure, say
from pipeline.common.errors import UserError
from pipeline.common.model_card import choose_labels, find_model, read_card
from pipeline.config.schema import PipelineSettings
from pipeline.config.sources import SourceSpec, parse_sources
from stages.classify.spec import ClassifySettings
from stages.detect.spec import DetectSettings, resolve_model
from stages.stage import TABLES

SIDE_RUNS: Final = 3  # of the scenes beside the one that was asked for, at most
SIDE_FRAMES: Final = 100
SIDE_TUTORIAL_FRAMES: Final = 20
FULL_HD: Final = (1920, 1080)
CROWDS: Final = (1, 2, 4, 8, 16)
BUSY: Final = 0.5  # load of the machine above which its figures are doubtful


def run_bench(settings: PipelineSettings, options: Namespace) -> int:
    """Measure, print, and write what the command line asks for; return the exit status. Raises UserError."""
    described = _described(settings, options)
    check_outputs(options.json, options.plots)
    machine = start()
    with terminable(), tempfile.TemporaryDirectory(prefix="emotions-bench-") as name:
        folder, source = Path(name), options.source
        clip = probe(settings, source, options.frames)
        scene = make_scene(label(source, clip), source, options.frames, clip, TUTORIAL_FRAMES)
        tutorial = not options.without_tutorial
        main = measure(settings, scene, options.runs, folder, tutorial=tutorial, throughput_only=False)
        runs = min(options.runs, SIDE_RUNS)
        others = [
            measure(settings, other, runs, folder, tutorial=tutorial, throughput_only=True)
            for other in _others(settings, options, clip, folder)
        ]
    document = make_document(machine, described, main, others)
    show(document)
    if options.json is not None:
        write_document(options.json, document)
    if options.plots is not None:
        _plot(document, others[-len(CROWDS) :], options.plots)
    return 0


def _described(settings: PipelineSettings, options: Namespace) -> dict[str, Any]:
    """Return what is measured. Raises UserError for whatever is missing, before anything runs."""
    spec = check_source(options.source)
    path = find_model(settings.of(ClassifySettings).model)
    card = read_card(path)
    detector = resolve_model(settings.of(DetectSettings).model)
    if not options.without_tutorial:
        check_tutorial(settings)
    model = {
        "name": card.name or path.stem,
        "file": path.name,
        "sha256": card.sha256_of(path),
        "labels": choose_labels(card, settings.of(ClassifySettings).labels, path),
        "parameters": card.parameters,
        "multiply_adds": card.multiply_adds,
    }
    return {
        "source": spec.name,
        "detector": detector.path.name if detector.path else detector.kind,
        "model": model,
        "pipeline": {name: msgspec.to_builtins(settings.of(kind)) for name, kind in TABLES.items()},
    }


def check_source(source: str) -> SourceSpec:
    """Return the source. Raises UserError for a live one, which gives other frames each time."""
    spec = parse_sources([source])[0]
    if spec.kind == "live":
        raise UserError(f"source {spec.name!r}: bench needs the same frames each time: a file, or demo")
    return spec


def check_outputs(json_path: Path | None, plots: Path | None) -> None:
    """Raise UserError now, not after minutes of work, if the results can't be written."""
    try:
        if json_path is not None:
            json_path.touch()
        if plots is not None:
            plots.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename}: can't be written: {error.strerror}") from error


def start() -> dict[str, Any]:
    """Return the machine as a document, and print a note if it is busy."""
    machine = describe()
    if machine["load"] > BUSY:
        say(f"note: the machine is busy (load {machine['load']}): the figures will be low")
    return machine


def probe(settings: PipelineSettings, source: str, frames: int) -> ClipInfo:
    """Return a clip's size, and its frames up to the number asked for."""
    return run_job(ClipInfo, "probe", settings, source, frames)


def scaled(
    settings: PipelineSettings, source: str, clip: ClipInfo, frames: int, folder: Path
) -> tuple[str, ClipInfo] | None:
    """Write a copy of the clip at 1920×1080; None if that is its own size."""
    if (clip.width, clip.height) == FULL_HD:
        return None
    path = str(folder / "1080p.mp4")
    return path, run_job(ClipInfo, "scale", settings, source, frames, output=path)


def _others(settings: PipelineSettings, options: Namespace, clip: ClipInfo, folder: Path) -> Iterator[Scene]:
    """Yield the same clip at 1920×1080 and last, for the plot, growing crowds."""
    asked = min(options.frames, SIDE_FRAMES)
    if large := scaled(settings, options.source, clip, asked, folder):
        yield make_scene("the same at 1920×1080", large[0], asked, large[1], SIDE_TUTORIAL_FRAMES)
    for faces in CROWDS if options.plots is not None else ():
        crowd = f"demo:{faces}"
        info = probe(settings, crowd, asked)
        yield make_scene(crowd, crowd, asked, info, SIDE_TUTORIAL_FRAMES)


def _plot(document: dict[str, Any], crowds: list[Measured], folder: Path) -> None:
    rates = [throughput(found) for found in crowds]
    plot_crowds(rates, CROWDS, folder / "fps_by_faces.png")
    plot_batches(document, folder / "batches.png")
    say(f"plots: {folder / 'fps_by_faces.png'}, {folder / 'batches.png'}")


def label(source: str, clip: ClipInfo) -> str:
    """Return a clip's name and size for tables."""
    return f"{parse_sources([source])[0].name}, {clip.width}×{clip.height}"


@contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that no process and no file is left."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
