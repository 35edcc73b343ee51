"""Makes deliveries, and reads back what was written of them."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.wire.messages import Delivery, Status
from stages.display.checkpoint import Checkpoint
from stages.display.display import Display
from stages.display.output_file import Patience
from stages.display.sinks.sink import Opening
from stages.display.spec import DisplaySettings
from stages.faces import Faces

BoxPx = tuple[float, float, float, float]
SHAPE: tuple[int, int, Literal[3]] = (60, 80, 3)
FPS = 12.5


class Outcome(NamedTuple):
    """What `Display.deliver` is handed."""

    delivery: Delivery
    faces: Faces
    image: NDArray[np.uint8] | None
    now_ns: int


def opening(
    sources: Sequence[str] = ("clip.mp4",), patience: Patience | None = None, **settings: Any
) -> Opening:
    """Return what a sink is opened with; settings: of display."""
    chosen = DisplaySettings(**settings)
    patience = patience or Patience()
    return Opening(chosen, sources, Checkpoint(None, patience), patience)


def outcome(
    sequence: int = 0,
    boxes: list[BoxPx] | None = None,
    *,
    source: str = "clip.mp4",
    status: Status = "ok",
    reason: str = "",
    file: str = "",
    pixels: bool = False,
    fps: float = FPS,
) -> Outcome:
    """Return an outcome that depends on the arguments alone."""
    boxes = boxes or []
    rng = np.random.default_rng([sequence, len(boxes)])
    captured_ns = 1_000_000_000 + sequence * 80_000_000
    delivery = Delivery(
        source=source,
        sequence=sequence,
        captured_ns=captured_ns,
        time_s=sequence / (fps or FPS),
        status=status,
        reason=reason,
        file=file,
        shape=SHAPE if pixels else None,
        fps=fps,
    )
    image = rng.integers(0, 255, SHAPE, np.uint8) if pixels else None
    probabilities = rng.dirichlet(np.ones(7), len(boxes)).astype(np.float32)
    return Outcome(delivery, Faces(boxes, probabilities, {}), image, captured_ns + 21_437_000)


def eventful_run(frames: int, sources: tuple[str, ...]) -> list[Outcome]:
    """Return a run in which faces come, go, cross and are missed, and frames are dropped or fail."""
    rng = random.Random(7)
    return [
        _eventful(sequence, place, source, rng)
        for sequence in range(frames)
        for place, source in enumerate(sources)
    ]


def _eventful(sequence: int, place: int, source: str, rng: random.Random) -> Outcome:
    if sequence % 7 == 3 + place:
        status: Status = "dropped" if sequence % 2 else "failed"
        return outcome(sequence, source=source, status=status, reason=f"why {sequence % 3}")
    boxes = [
        (100 + 9.13 * sequence, 50.0 + place, 40.04, 52.06),
        (300 - 8.57 * sequence, 55.55, 41.0, 50.0),
        (200.0 + rng.gauss(0, 2), 150.0, 30.0, 30.0),
    ]
    seen = [box for box in boxes if rng.random() < 0.8]
    rng.shuffle(seen)
    return outcome(sequence, seen, source=source, file=f"{sequence}.png" if place else "")


def play(display: Display, outcomes: list[Outcome]) -> list[bytes]:
    """Deliver outcomes; return the records."""
    return [display.deliver(*one) for one in outcomes]


def written(path: Path, sources: list[str], outcomes: list[Outcome], checkpoint: Path | None = None) -> bytes:
    """Return what a run with only a results file wrote."""
    display = Display(DisplaySettings(mode="none", results=str(path)), sources, checkpoint)
    play(display, outcomes)
    display.close()
    return path.read_bytes()


def records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a .jsonl file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
