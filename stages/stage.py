"""The stages of a run. A new one is a folder with a spec, and a line in STAGES."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from pipeline.common.errors import UserError
from pipeline.config.loader import load_settings
from pipeline.config.schema import CORE_TABLES, PipelineSettings, Settings
from pipeline.config.sources import is_browser
from pipeline.config.stage import StageSpec
from stages.capture.spec import CAPTURE, CaptureSettings
from stages.classify.spec import CLASSIFY
from stages.detect.spec import DETECT
from stages.display.spec import DISPLAY, DisplaySettings
from stages.web.spec import WEB

STAGES: Final[tuple[StageSpec[Any], ...]] = (WEB, DISPLAY, DETECT, CLASSIFY, CAPTURE)
"""In the order of their start, and of their steps: what takes outcomes is there before what makes frames."""

ROLES: Final = tuple(spec.role for spec in STAGES)

TABLES: Final[dict[str, type[Settings]]] = {spec.role: spec.settings for spec in STAGES} | CORE_TABLES


def read_settings(path: Path | None = None, assignments: Sequence[str] = ()) -> PipelineSettings:
    """Return the settings of a file, by default the project's own, with `table.key=value` on top.

    Raises UserError for whatever is wrong with them.
    """
    return load_settings(path, assignments, TABLES)


def choose_page(settings: PipelineSettings, here: frozenset[str]) -> DisplaySettings:
    """Return the display's settings; a source `browser` needs the web page. here: the roles that run here.

    Raises UserError if the settings have another display, or --only leaves the page out.
    """
    display = settings.of(DisplaySettings)
    named = next((text for text in settings.of(CaptureSettings).sources if is_browser(text)), "")
    if not named or "capture" not in here:
        return display
    if display.mode not in ("auto", "web"):
        raise UserError(
            f"source {named}: the web page asks its visitors for their cameras; "
            f"expected --display web, found {display.mode}"
        )
    missing = [role for role in ("web", "display") if role not in here]
    if missing:
        raise UserError(
            f"source {named}: capture, display and the web page have to be on one machine; "
            f"--only leaves out {' and '.join(missing)}"
        )
    return msgspec.structs.replace(display, mode="web")
