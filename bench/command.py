"""`python run.py bench`: the pipeline against the tutorial's loop and against a plain one."""

import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec

from bench.document import make_document, throughput
from bench.job import ClipInfo, Job, run_job
from bench.machine import describe
from bench.scene import TUTORIAL_FRAMES, Measured, Scene, make_scene, measure
from bench.table import show
from pipeline.card import choose_labels, find_model, read_card
from pipeline.detectors import resolve_model
from pipeline.errors import UserError
from pipeline.settings import PipelineSettings
from pipeline.sources import parse_sources

SOURCE: Final = "demo"
FRAMES: Final = 300
SIDE_RUNS: Final = 3  # of the scenes beside the one that was asked for, at most
SIDE_FRAMES: Final = 100
SIDE_TUTORIAL_FRAMES: Final = 20
FULL_HD: Final = (1920, 1080)
CROWDS: Final = (1, 2, 4, 8, 16)
BUSY: Final = 0.5  # load of the machine above which its figures are doubtful


def run_bench(
    settings: PipelineSettings,
    source: str | None,
    frames: int | None,
    runs: int,
    json_path: Path | None,
    plots: Path | None,
) -> int:
    """Measure, print, and write what is asked for; return the exit status. Raises UserError."""
    source = source or SOURCE
    described = _described(settings, source, runs)
    _check_outputs(json_path, plots)
    machine = describe()
    if machine["load"] > BUSY:
        _say(f"note: the machine is busy (load {machine['load']}): the figures will be low")
    with _terminable(), tempfile.TemporaryDirectory(prefix="emotions-bench-") as name:
        folder = Path(name)
        clip = _probe(settings, source, frames or FRAMES)
        scene = make_scene(_label(source, clip), source, frames or FRAMES, clip, TUTORIAL_FRAMES)
        main = measure(settings, scene, runs, folder, _say, throughput_only=False)
        others = [
            measure(settings, other, min(runs, SIDE_RUNS), folder, _say, throughput_only=True)
            for other in _others(settings, source, clip, frames, folder, crowds=plots is not None)
        ]
    described |= {"frames": scene.frames, "tutorial_frames": scene.tutorial_frames}
    document = make_document(machine, described, main, others)
    show(document, throughput(main))
    if json_path is not None:
        json_path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if plots is not None:
        _plot(document, [other for other in others if _is_crowd(other)], plots)
    return 0


def _described(settings: PipelineSettings, source: str, runs: int) -> dict[str, Any]:
    """What is measured; whatever is missing is found here, before anything runs."""
    spec = parse_sources([source])[0]
    if spec.kind == "live":
        raise UserError(f"source {spec.name!r}: bench needs the same frames each time: a file, or demo")
    path = find_model(settings.classify.model)
    card = read_card(path)
    detector = resolve_model(settings.detect.model)
    model = {
        "name": card.name or path.stem,
        "file": path.name,
        "sha256": card.sha256_of(path),
        "labels": choose_labels(card, settings.classify.labels, path),
        "parameters": card.parameters,
        "multiply_adds": card.multiply_adds,
    }
    return {
        "source": spec.name,
        "runs": runs,
        "detector": detector.path.name if detector.path else detector.kind,
        "model": model,
        "pipeline": msgspec.to_builtins(settings),
    }


def _check_outputs(json_path: Path | None, plots: Path | None) -> None:
    """Find out now, not after minutes of work, that a result has no place."""
    try:
        if json_path is not None:
            json_path.touch()
        if plots is not None:
            plots.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename}: can't be written: {error.strerror}") from error


def _probe(settings: PipelineSettings, source: str, frames: int) -> ClipInfo:
    return run_job(Job(kind="probe", source=source, frames=frames, settings=settings), ClipInfo)


def _others(
    settings: PipelineSettings, source: str, clip: ClipInfo, frames: int | None, folder: Path, *, crowds: bool
) -> Iterator[Scene]:
    """The same clip at 1920×1080 and, for the plot, crowds of growing size."""
    asked = min(frames or FRAMES, SIDE_FRAMES)
    if (clip.width, clip.height) != FULL_HD:
        path = str(folder / "1080p.mp4")
        job = Job(kind="scale", source=source, frames=asked, settings=settings, output=path)
        large = run_job(job, ClipInfo)
        yield make_scene("the same at 1920×1080", path, asked, large, SIDE_TUTORIAL_FRAMES)
    for faces in CROWDS if crowds else ():
        crowd = f"demo:{faces}"
        info = _probe(settings, crowd, asked)
        yield make_scene(crowd, crowd, asked, info, SIDE_TUTORIAL_FRAMES)


def _is_crowd(found: Measured) -> bool:
    return found.scene.source.startswith("demo:")


def _plot(document: dict[str, Any], crowds: list[Measured], folder: Path) -> None:
    from bench.plots import plot_batches, plot_crowds  # matplotlib takes a second to load

    rates = [throughput(found) for found in crowds]
    plot_crowds(rates, CROWDS, folder / "fps_by_faces.png")
    plot_batches(document, folder / "batches.png")
    _say(f"plots: {folder / 'fps_by_faces.png'}, {folder / 'batches.png'}")


def _label(source: str, clip: ClipInfo) -> str:
    return f"{parse_sources([source])[0].name}, {clip.width}×{clip.height}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds, so that no process and no file is left."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
