"""The stages of a run. A new one is a folder with a spec, and a line in STAGES."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pipeline.config.loader import load_settings
from pipeline.config.schema import CORE_TABLES, PipelineSettings, Settings
from pipeline.config.stage import StageSpec
from stages.capture.spec import CAPTURE
from stages.classify.spec import CLASSIFY
from stages.detect.spec import DETECT
from stages.display.spec import DISPLAY
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
