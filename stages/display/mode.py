"""Which display a run has where the settings leave it open."""

import os
import sys

import msgspec

from pipeline.common.errors import UserError
from pipeline.config.schema import DisplaySettings


def has_screen() -> bool:
    """Whether this session has a screen that a window could be opened on."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def resolve_display(settings: DisplaySettings) -> tuple[DisplaySettings, str]:
    """Return the settings with the mode window or none, and a line that says why if that was left open.

    Raises UserError for a display that can't be had.
    """
    if settings.mode == "web":
        raise UserError("display.mode: there is no web page yet; use window, or none with --record FILE")
    if settings.mode == "window" and not has_screen():
        raise UserError(
            "display.mode: a window needs a screen, and DISPLAY is not set; "
            "use --display none, with --record FILE for an annotated video"
        )
    if settings.mode != "auto":
        return settings, ""
    if has_screen():
        return msgspec.structs.replace(settings, mode="window"), ""
    said = "no screen: the status is shown here; --record FILE makes an annotated video"
    return msgspec.structs.replace(settings, mode="none"), said
