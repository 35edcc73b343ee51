"""Windows on this machine's screen, one a source."""

import os
import subprocess
import sys
from typing import Final

import cv2

from pipeline.common.errors import UserError
from stages.display.sinks.sink import Outcome, Sink

LARGEST: Final = (1280, 720)
"""A window opens no larger than this, px, which fits on every screen of today; people resize it."""

SMALLEST: Final = (480, 360)
"""A window opens so large that one of its sides reaches this, px."""

PROBE_TIMEOUT_S: Final = 20.0
_PROBE: Final = "import cv2; cv2.namedWindow('probe'); cv2.pollKey(); cv2.destroyAllWindows()"
_MEND: Final = "use --display none with --record FILE or --results FILE"


class Windows(Sink):
    """The open windows."""

    wants_pixels = True
    watched = True

    def __init__(self, *, mirror: bool = False) -> None:
        """Make sure that there is a screen. Raises UserError in one line if there is none."""
        self._mirror = mirror
        _quiet_qt()
        _probe()
        self._shown: set[str] = set()
        self._closed: set[str] = set()

    def write(self, outcome: Outcome) -> None:
        """Show a frame; the window of its source opens with the first one, sized to fit."""
        image = outcome.mirrored if self._mirror else outcome.drawn
        source = outcome.record.source
        if image is None or source in self._closed:
            return
        title = _title(source)
        if source not in self._shown:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            cv2.resizeWindow(title, *window_size(image.shape[1], image.shape[0]))
            self._shown.add(source)
        cv2.imshow(title, image)

    def poll(self) -> str | None:
        """Let the windows act; return "q" when the user pressed q or closed the last window."""
        if not self._shown:
            return None
        pressed = cv2.pollKey() & 0xFF in (ord("q"), ord("Q"))
        for source in [s for s in self._shown if not _visible(_title(s))]:
            self._shown.discard(source)
            self._closed.add(source)
        return "q" if pressed or not self._shown else None

    def close(self) -> None:
        """Close all windows."""
        if self._shown:
            cv2.destroyAllWindows()
            cv2.pollKey()  # they go only when events are looked after
            self._shown.clear()


def window_size(width: int, height: int) -> tuple[int, int]:
    """Return how large a window opens for frames of this size, px, in their proportions."""
    largest = min(LARGEST[0] / width, LARGEST[1] / height)
    smallest = min(SMALLEST[0] / width, SMALLEST[1] / height)
    scale = min(largest, max(1.0, smallest))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _title(source: str) -> str:
    return f"{source} - facial emotions"


def _visible(title: str) -> bool:
    try:
        return cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1
    except cv2.error:  # how the Qt backend answers once its last window is closed
        return False


def _quiet_qt() -> None:
    """Keep Qt's notes on fonts and plugins out of the terminal."""
    os.environ.setdefault("QT_LOGGING_RULES", "*.debug=false;*.warning=false")


def _probe() -> None:
    """Open a window in a process of its own: Qt ends its process when it finds no screen."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError(f"display window: no screen here (DISPLAY is not set); {_MEND}")
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"display window: opening a window took longer than {PROBE_TIMEOUT_S:.0f} s; {_MEND}"
        ) from None
    if probe.returncode != 0:
        screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or "the screen"
        raise UserError(f"display window: cannot open a window on {screen}; {_MEND}")
