"""Resolves what the settings leave open, and starts the run."""

import os
import subprocess
import sys
from io import StringIO
from typing import Final, TextIO

import msgspec

from pipeline.broker.spec import BROKER
from pipeline.common.errors import UserError
from pipeline.common.files import python_path
from pipeline.common.model_card import choose_labels, find_model, read_card
from pipeline.config.schema import PipelineSettings
from pipeline.config.sources import SourceSpec, parse_sources
from pipeline.supervisor.plan import laid_out
from pipeline.supervisor.reporter import Reporter
from pipeline.supervisor.runner import Runner, Signals
from stages.capture.spec import CaptureSettings
from stages.classify.spec import ClassifySettings
from stages.display.spec import STDOUT, UNCERTAIN_BELOW, DisplaySettings
from stages.stage import STAGES, choose_page

CAMERA_PROBE_S: Final = 20.0
REFUSED_STATUS: Final = 2


def run(settings: PipelineSettings, here: frozenset[str]) -> int:
    """Run the roles in `here` of the pipeline until its end; return the exit status.

    Raises UserError for what is wrong before the first process starts.
    """
    reporter = Reporter(settings.log, _summary_to(settings, here))
    try:
        settings, sources = prepare(settings, here, reporter)
        if settings.run.engine == "ray":
            from pipeline.supervisor.ray_engine import run_on_ray

            return run_on_ray((BROKER, *STAGES), settings, sources, reporter)
        check_places(sources)
        with Signals() as signals, laid_out((BROKER, *STAGES), settings, sources, here) as plan:
            return Runner(settings, plan, reporter, signals).run()
    except UserError as error:
        reporter.log("error", str(error))
        return REFUSED_STATUS
    finally:
        reporter.close()


def check_places(sources: list[SourceSpec]) -> None:
    """Raise UserError for a source that is captured on another machine than this."""
    for source in sources:
        if source.place:
            raise UserError(
                f"source {source.shown}@{source.place}: a place of a cluster needs --engine ray; "
                f"a camera of this machine is {source.shown}"
            )


def _summary_to(settings: PipelineSettings, here: frozenset[str]) -> TextIO | None:
    """Return the file for the summary; None: standard output."""
    if not settings.log.status:
        return StringIO()
    taken = settings.of(DisplaySettings).results == STDOUT and "display" in here
    return sys.stderr if taken else None  # standard output has the records


def prepare(
    settings: PipelineSettings, here: frozenset[str], reporter: Reporter
) -> tuple[PipelineSettings, list[SourceSpec]]:
    """Resolve what the settings leave open: sources, detector, labels, display; log the choices.

    Raises UserError for a source, model or display that can't be used.
    """
    settings = settings.replace(choose_page(settings, here))
    for spec in STAGES:
        if spec.resolve is not None and spec.role in here:
            resolved, lines = spec.resolve(settings.of(spec.settings))
            settings = settings.replace(resolved)
            for line in lines:
                reporter.info(line)
    settings = settings.replace(choose_threshold(settings))
    capture = settings.of(CaptureSettings)
    sources = find_sources(capture.sources, reporter) if "capture" in here else []
    watched = settings.of(DisplaySettings).mode in ("window", "web")
    if watched and [source.form for source in sources] == ["demo"]:  # it repeats until it is stopped
        settings = settings.replace(msgspec.structs.replace(capture, repeat=0))
    return settings, sources


def choose_threshold(settings: PipelineSettings) -> DisplaySettings:
    """Return the display's settings with the confidence below which faces are uncertain.

    If the settings leave it open it is the model card's, or UNCERTAIN_BELOW without one.
    """
    display, classify = settings.of(DisplaySettings), settings.of(ClassifySettings)
    if display.uncertain_below >= 0:
        return display
    try:
        path = find_model(classify.model)
        card = read_card(path)
        found = card.uncertain_below(choose_labels(card, classify.labels, path))
    except UserError:
        found = None  # a machine with display alone needs no model
    return msgspec.structs.replace(display, uncertain_below=UNCERTAIN_BELOW if found is None else found)


def find_sources(texts: list[str], reporter: Reporter) -> list[SourceSpec]:
    """Return the named sources; without one the first camera that opens, else the demo."""
    if texts:
        return parse_sources(texts)
    command = [sys.executable, "-P", "-m", "stages.capture.sources.camera"]
    environment = os.environ | {"PYTHONPATH": python_path()}
    try:
        probe = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=CAMERA_PROBE_S
        )
        camera = probe.stdout.strip()
    except subprocess.TimeoutExpired:
        camera = ""
    reporter.info(f"source: camera {camera}" if camera else "no camera opens: the demo is shown instead")
    return parse_sources([camera or "demo"])
