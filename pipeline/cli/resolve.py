"""What a run needs to know before its first process starts; what is wrong with it is said here at once."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from pipeline.common.files import PROJECT
from pipeline.common.model_card import choose_labels, find_model, read_card
from pipeline.config.schema import DisplaySettings, PipelineSettings
from pipeline.config.sources import SourceSpec, parse_sources
from pipeline.supervisor.plan import ROLES, RunPlan, make_plan
from pipeline.supervisor.reporter import Reporter
from pipeline.supervisor.run_directory import frames_directory, run_directory
from stages.detect.model import resolve_model
from stages.display.mode import resolve_display

CAMERA_PROBE_S: Final = 20.0


def prepare(
    settings: PipelineSettings, sources: list[str], only: frozenset[str] | None, reporter: Reporter
) -> tuple[PipelineSettings, list[SourceSpec], str]:
    """Settle what the settings leave open: sources, detector, labels, display; say what was chosen.

    The last one returned is the sha256 of the emotion model, "" where none is used here. Raises UserError for
    a source, model or display that can't be had.
    """
    here = frozenset(ROLES) if only is None else only
    model = ""
    if "classify" in here:
        settings, model = _settle_labels(settings, reporter)
    if "detect" in here:
        resolve_model(settings.detect.model)
    display = settings.display
    if "display" in here:
        display, said = resolve_display(display)
        if said:
            reporter.info(said)
    specs = _find_sources(sources, reporter) if "capture" in here else []
    return _for_display(settings, display, specs), specs, model


@contextmanager
def laid_out(
    settings: PipelineSettings, specs: list[SourceSpec], only: frozenset[str] | None, model: str = ""
) -> Iterator[RunPlan]:
    """Give the plan of a run with its keys and its directories, which are removed at the end.

    Arguments as for `make_plan`. Raises UserError as `make_plan`, `run_directory` and `with_keys` do.
    """
    with run_directory() as directory, frames_directory() as frames:
        plan = make_plan(settings, specs, only, directory, model)
        yield with_keys(plan, settings, directory)._replace(frames=str(frames or ""))


def with_keys(plan: RunPlan, settings: PipelineSettings, directory: Path) -> RunPlan:
    """Return the plan with the directory of its keys: the one named, this user's own, or made for this run.

    Raises UserError for keys that are missing, damaged or open to others.
    """
    if not plan.needs_keys:
        return plan
    from pipeline.wire.keys import check_keys, make_keys, user_directory

    named = settings.broker.address or settings.broker.publish
    if settings.security.keys:
        keys = Path(settings.security.keys).expanduser().absolute()
    elif named:  # other programs of this user meet the run there
        keys = user_directory()
    else:
        keys = directory / "keys"
        make_keys(keys)
    plan = plan._replace(keys=str(keys))
    roles = ["parent", *(process.role for process in plan.processes)]
    check_keys(keys, dict.fromkeys(role for role in roles if plan.keys_of(role)))
    return plan


def _find_sources(texts: list[str], reporter: Reporter) -> list[SourceSpec]:
    """The sources asked for; else the first camera that opens, else the demo."""
    if texts:
        return parse_sources(texts)
    command = [sys.executable, "-m", "stages.capture.probe"]
    try:
        probe = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=CAMERA_PROBE_S)
        camera = probe.stdout.strip()
    except subprocess.TimeoutExpired:
        camera = ""
    reporter.info(f"source: camera {camera}" if camera else "no camera opens: the demo is shown instead")
    return parse_sources([camera or "demo"])


def _settle_labels(settings: PipelineSettings, reporter: Reporter) -> tuple[PipelineSettings, str]:
    """Settle for all classifiers of this run whose labels they show; return the model's sha256 as well."""
    path = find_model(settings.classify.model)
    card = read_card(path)
    labels = choose_labels(card, settings.classify.labels, path)
    reporter.info(f"emotion model: {path}, labels: {labels}")
    classify = msgspec.structs.replace(settings.classify, labels=labels)
    return msgspec.structs.replace(settings, classify=classify), card.sha256_of(path)


def _for_display(
    settings: PipelineSettings, display: DisplaySettings, specs: list[SourceSpec]
) -> PipelineSettings:
    """Settle the display; the demo, when it is watched, repeats until it is stopped."""
    capture = settings.capture
    if display.mode == "window" and [spec.form for spec in specs] == ["demo"]:
        capture = msgspec.structs.replace(capture, repeat=0)
    return msgspec.structs.replace(settings, display=display, capture=capture)
