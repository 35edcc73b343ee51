"""`python -m tools.compare_trackers`: how often the tracker confuses people, compared with ByteTrack.

Scenes with known identities: the demo, searched by YuNet at several frame rates, and walkers who cross and
hide each other, with boxes that jitter and are missed. ByteTrack is that of the package `trackers` 2.6; its
columns are left out if it is not installed.

    pip install --target /tmp/trackers "trackers==2.6.*"
    PYTHONPATH=/tmp/trackers python -m tools.compare_trackers
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from pipeline.config.sources import SourceSpec
from stages.capture.sources.demo import FPS, DemoReader
from stages.detect.detector import open_detector
from stages.detect.spec import DetectSettings
from stages.display.record import Box, round_box
from stages.display.tracks import MAX_UNSEEN_S, Tracker
from tools.measuring import table

SCENES: Final = 40
WALKERS: Final = 6
SECONDS: Final = 12
HIDDEN: Final = 0.3  # share of a face that a nearer one covers above which it is not found
MISSED: Final = 0.03  # of the faces that could be found
JITTER: Final = 0.03  # of a box's size, standard deviation


FACE_CENTRE: Final = 0.62  # of the height of the demo's head in its cap
SAME_PLACE_PX: Final = 25.0


class Step(NamedTuple):
    """A frame: boxes, their scores, and who they are."""

    time_s: float
    boxes: list[Box]
    scores: list[float]
    people: list[int]


class Errors(NamedTuple):
    """What a tracker got wrong."""

    switches: int  # a person's number becomes one that was another person's
    fragments: int  # a person who was unseen for less than a track lives gets a new number


Update = Callable[[Step], list[int]]
"""Returns the number of each box of a frame; -1 for none."""


def ours() -> Update:
    tracker = Tracker()
    return lambda step: tracker.update(step.time_s, step.boxes)


def byte_track(frame_rate: float) -> Update:
    """Return ByteTrack with its own settings, but with tracks that live as long as ours do."""
    import supervision
    from trackers import ByteTrackTracker

    lost = round(MAX_UNSEEN_S * 30)  # in frames at 30 a second: it scales them itself
    tracker: Any = ByteTrackTracker(
        lost_track_buffer=lost, frame_rate=frame_rate, minimum_consecutive_frames=1
    )

    def update(step: Step) -> list[int]:
        boxes = np.array(step.boxes, np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scores = np.array(step.scores, np.float32)
        found = tracker.update(supervision.Detections(xyxy=boxes, confidence=scores))
        by_box = {tuple(box): int(number) for box, number in zip(found.xyxy, found.tracker_id, strict=True)}
        return [by_box.get(tuple(box), -1) for box in boxes]

    return update


def errors(steps: Sequence[Step], update: Update) -> Errors:
    """Return a tracker's errors over a scene."""
    number_of: dict[int, int] = {}  # person -> its last number
    last_s: dict[int, float] = {}
    owner: dict[int, int] = {}  # number -> the person who had it last
    switches = fragments = 0
    for step in steps:
        for person, number in zip(step.people, update(step), strict=True):
            if number < 0:
                continue
            before = number_of.get(person)
            if before is not None and before != number:
                if owner.get(number, person) != person:
                    switches += 1
                elif step.time_s - last_s[person] <= MAX_UNSEEN_S:
                    fragments += 1
            number_of[person], last_s[person], owner[number] = number, step.time_s, person
    return Errors(switches, fragments)


def demo_steps(every: int, plays: int = 2) -> list[Step]:
    """Return the demo as YuNet sees it, of each `every` frames one."""
    detector = open_detector(DetectSettings())
    steps = []
    for play in range(plays):
        reader = DemoReader(SourceSpec("demo", "demo", "demo"))
        number = 0
        while (frame := reader.read()) is not None:
            places = list(reader.scene(number))
            if number % every == 0 and frame.image is not None:
                faces = detector.detect(frame.image)
                boxes = [round_box(face.box_px) for face in faces]
                width, height = reader.face_size
                centres = [(p.x + width / 2, p.y + height * FACE_CENTRE) for p in places]
                people = []
                for x, y, w, h in boxes:
                    gaps = [np.hypot(x + w / 2 - cx, y + h / 2 - cy) for cx, cy in centres]
                    # Of those who are in the same place the one in front is seen, who is placed last.
                    people.append(int(np.flatnonzero(np.array(gaps) < min(gaps) + SAME_PLACE_PX)[-1]))
                steps.append(Step(play * 12 + frame.time_s, boxes, [face.score for face in faces], people))
            number += 1
    return steps


def walker_steps(seed: int, fps: float) -> list[Step]:
    """Return a scene of people who walk to and fro across a picture of 960×540, some nearer than others."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(50, 110, WALKERS)
    order = np.argsort(size)  # the largest is nearest
    base, swing = rng.uniform(150, 810, WALKERS), rng.uniform(100, 350, WALKERS)
    period, phase = rng.uniform(4, 10, WALKERS), rng.uniform(0, 2 * np.pi, WALKERS)
    row = rng.uniform(200, 320, WALKERS)
    steps = []
    for number in range(round(SECONDS * fps)):
        time_s = number / fps
        x = base + swing * np.sin(2 * np.pi * time_s / period + phase)
        y = row + 6 * np.sin(2 * np.pi * 2 * time_s + phase)
        seen = [p for p in order if not _hidden(p, x, y, size) and rng.random() > MISSED]
        boxes = []
        for p in seen:
            dx, dy, dw, dh = rng.normal(0, JITTER * size[p], 4)
            w, h = size[p] + dw, 1.3 * size[p] + dh
            boxes.append(round_box((x[p] - w / 2 + dx, y[p] - h / 2 + dy, w, h)))
        steps.append(
            Step(time_s, boxes, [float(rng.uniform(0.7, 0.95)) for _ in seen], [int(p) for p in seen])
        )
    return steps


def _hidden(person: int, x: Any, y: Any, size: Any) -> bool:
    """Return whether a nearer face covers more than HIDDEN of this one."""
    for other in np.flatnonzero(size > size[person]):
        wide = (size[person] + size[other]) / 2 - abs(x[person] - x[other])
        high = 1.3 * (size[person] + size[other]) / 2 - abs(y[person] - y[other])
        wide, high = min(wide, size[person]), min(high, 1.3 * size[person])
        if wide > 0 and high > 0 and wide * high > HIDDEN * 1.3 * size[person] ** 2:
            return True
    return False


def main() -> int:
    argparse.ArgumentParser(prog="python -m tools.compare_trackers", description=__doc__).parse_args()
    there = importlib.util.find_spec("trackers") is not None
    rows = []
    scenes: list[tuple[str, float, list[list[Step]]]] = [
        (f"demo, {FPS / every:g} frames/s", FPS / every, [demo_steps(every)]) for every in (1, 2, 5)
    ]
    scenes += [
        (
            f"{SCENES} scenes of walkers, {fps:g} frames/s",
            fps,
            [walker_steps(seed, fps) for seed in range(SCENES)],
        )
        for fps in (25.0, 12.5, 5.0)
    ]
    for name, fps, steps in scenes:
        row: list[object] = [name]
        for make in (ours, lambda fps=fps: byte_track(fps)) if there else (ours,):
            found = [errors(one, make()) for one in steps]
            row += [sum(e.switches for e in found), sum(e.fragments for e in found)]
        rows.append(row)
    header = ["clip", "switches", "fragments", *(["ByteTrack: switches", "fragments"] if there else [])]
    print(table(header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
