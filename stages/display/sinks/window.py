"""The window on this machine's screen: a tile for each source."""

import os
import time
from collections import deque
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np

from stages.display.drawing import CANVAS, EMPTY, Tile, compose, draw_bars, mirrored, text_scale, write
from stages.display.record import FaceRecord
from stages.display.sinks.sink import Image, Opening, Outcome, Sink

SMALLEST: Final = (480, 360)
"""One side of a new window has at least this size, px."""

REDRAW_S: Final = 1 / 30
"""Shortest time between two drawings, which take 10 ms of a core with several sources. Where they take longer
than half of it, half of the time is left for the run: watched files are read as fast as display writes."""

RATE_S: Final = 2.0  # over which frames a second and latency are taken
NOTE_S: Final = 3.0  # how long a note is shown, such as that a picture was saved

DETAILS: Final = ("labels", "labels and bars", "picture only")
HELP: Final = (
    "h: these keys",
    "d: labels, bars for every face, picture only",
    "m: mirror",
    "space: pause the picture; the run goes on",
    "s: save the picture",
    "q: quit",
    "mouse over a face: its seven probabilities",
)


class Arrival(NamedTuple):
    """When a frame was shown, and its latency."""

    at_s: float
    latency_ms: float


class View:
    """One source in the window: its newest frame and its rate."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.ended = False
        self._arrivals: deque[Arrival] = deque()

    def take(self, outcome: Outcome, now_s: float) -> None:
        self.outcome = outcome
        self._arrivals.append(Arrival(now_s, outcome.record.latency_ms))
        while now_s - self._arrivals[0].at_s > RATE_S:
            self._arrivals.popleft()

    def rate(self) -> str:
        """Return frames a second and median latency as text, "" for less than two frames."""
        if len(self._arrivals) < 2:
            return ""
        took_s = self._arrivals[-1].at_s - self._arrivals[0].at_s
        latency_ms = float(np.median([arrival.latency_ms for arrival in self._arrivals]))
        return f"{(len(self._arrivals) - 1) / max(took_s, 1e-6):.0f} frames/s  {latency_ms:.0f} ms"


class Window(Sink):
    """The open window."""

    wants_pixels = True
    watched = True

    def __init__(self, run: Opening) -> None:
        """Open the window. Qt ends the process where it can't: `resolve` in spec.py has tried before."""
        sources, self._mirror = run.sources, run.settings.mirror
        # Keeps Qt's notes on fonts and plugins out of the terminal.
        os.environ.setdefault("QT_LOGGING_RULES", "*.debug=false;*.warning=false")
        self._views = {source: View() for source in sources}
        self._title = f"{sources[0]} - facial emotions" if len(sources) == 1 else "facial emotions"
        self._detail = 0
        self._paused = self._help = self._sized = False
        self._mouse = (-1, -1)
        self._note, self._note_until_s = "", 0.0
        self._dirty, self._next_drawing_s = True, 0.0
        self._canvas: Image = np.full((CANVAS[1], CANVAS[0], 3), EMPTY, np.uint8)
        cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.resizeWindow(self._title, *window_size(*CANVAS))
        cv2.setMouseCallback(self._title, self._on_mouse)
        self._open = True
        self._show()

    def write(self, outcome: Outcome) -> None:
        """Keep the frame; `poll` draws it."""
        if outcome.image is None:
            return
        view = self._views.setdefault(outcome.record.source, View())
        if not self._paused:
            view.take(outcome, time.monotonic())
            self._dirty = True

    def end_source(self, source: str) -> None:
        self._views.setdefault(source, View()).ended = True
        self._dirty = True

    def poll(self) -> str | None:
        """Draw what is new and act on keys; return "q" when the user pressed q or closed the window."""
        if not self._open:
            return None
        now_s = time.monotonic()
        if self._note and now_s > self._note_until_s:
            self._note, self._dirty = "", True
        if self._dirty and now_s >= self._next_drawing_s:
            self._show()
        key = cv2.pollKey() & 0xFF
        if key != 0xFF and self._act(chr(key).lower()):
            return "q"
        return None if _visible(self._title) else "q"

    def close(self) -> None:
        """Close the window."""
        if self._open:
            self._open = False
            cv2.destroyAllWindows()
            cv2.pollKey()  # it goes only when events are looked after

    def _act(self, key: str) -> bool:
        """Do what a key stands for; return whether it is to quit."""
        if key == "d":
            self._detail = (self._detail + 1) % len(DETAILS)
            self._say(DETAILS[self._detail])
        elif key == "m":
            self._mirror = not self._mirror
        elif key == " ":
            self._paused = not self._paused
        elif key == "h":
            self._help = not self._help
        elif key == "s":
            self._say(save(self._canvas))
        self._dirty = True
        return key == "q"

    def _say(self, text: str) -> None:
        self._note, self._note_until_s = text, time.monotonic() + NOTE_S

    def _on_mouse(self, event: int, x: int, y: int, *_: object) -> None:
        self._mouse = (x, y)
        self._dirty = True

    def _show(self) -> None:
        """Draw the window anew."""
        self._dirty, began_s = False, time.monotonic()
        self._canvas, tiles = compose([self._picture(view) for view in self._views.values()] or [None])
        for (name, view), tile in zip(self._views.items(), tiles, strict=False):
            self._draw_tile(name, view, tile)
        if not self._views:
            write(self._canvas, ["waiting for a source"], "middle")
        if self._help:
            write(self._canvas, HELP, "middle")
        notes = [note for note in ("paused" if self._paused else "", self._note) if note]
        if notes:
            write(self._canvas, notes, "lower right")
        if not self._sized and any(view.outcome for view in self._views.values()):
            self._sized = True  # a single source's window has its proportions
            cv2.resizeWindow(self._title, *window_size(self._canvas.shape[1], self._canvas.shape[0]))
        cv2.imshow(self._title, self._canvas)
        now_s = time.monotonic()
        self._next_drawing_s = max(began_s + REDRAW_S, now_s + (now_s - began_s))

    def _picture(self, view: View) -> Image | None:
        if view.outcome is None or view.outcome.image is None:
            return None
        if DETAILS[self._detail] == "picture only":
            image = view.outcome.image
            return np.ascontiguousarray(image[:, ::-1]) if self._mirror else image
        return view.outcome.mirrored if self._mirror else view.outcome.drawn

    def _draw_tile(self, name: str, view: View, tile: Tile) -> None:
        """Write what there is to say of a source over its tile."""
        area = self._canvas[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
        if view.outcome is None:
            awaited = "ended without a frame" if view.ended else "waiting for its first frame ..."
            write(area, [name, awaited], "middle")
            return
        if rate := view.rate():
            write(area, [rate], "upper right")
        if len(self._views) > 1 or view.ended:
            write(area, [f"{name}: ended" if view.ended else name], "lower left")
        taken: list[tuple[int, int]] = []
        for face in sorted(self._barred(view, tile), key=lambda face: -face.box[3]):  # the nearest first
            x, y, width, _ = face.box
            corner = (x + width) * tile.scale, y * tile.scale
            draw_bars(area, face, corner, text_scale(area), taken)

    def _barred(self, view: View, tile: Tile) -> list[FaceRecord]:
        """Return the faces whose bars are drawn, as they lie in the picture that is shown."""
        assert view.outcome is not None and view.outcome.image is not None
        faces = view.outcome.record.faces
        if self._mirror:
            faces = [mirrored(face, view.outcome.image.shape[1]) for face in faces]
        if DETAILS[self._detail] == "labels and bars":
            return faces
        place = tile.inside(*self._mouse)
        return [] if place is None else [face for face in faces if _holds(face, *place)][:1]


def save(canvas: Image) -> str:
    """Write a picture, uint8 BGR, into the current folder; return what there is to say of it."""
    path = Path(time.strftime("emotions-%Y%m%d-%H%M%S.png"))
    _, data = cv2.imencode(".png", canvas)
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        return f"{path} can't be written: {error.strerror}"
    return f"saved as {path}"


def window_size(width: int, height: int) -> tuple[int, int]:
    """Return how large a window opens for frames of this size, px, in their proportions."""
    largest = min(CANVAS[0] / width, CANVAS[1] / height)
    smallest = min(SMALLEST[0] / width, SMALLEST[1] / height)
    scale = min(largest, max(1.0, smallest))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _holds(face: FaceRecord, x: float, y: float) -> bool:
    left, top, width, height = face.box
    return left <= x <= left + width and top <= y <= top + height


def _visible(title: str) -> bool:
    try:
        return cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1
    except cv2.error:  # how the Qt backend answers once its last window is closed
        return False
