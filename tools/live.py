"""`python -m tools.live [--against DIR]`: latency and drops of live cameras.

The cameras are MJPEG streams over http at 640×480 and 30 frames a second, served by this program on the same
cores: the demo's 300 frames, scaled and encoded once. Two scenes: one camera with four faces, and four
cameras with two faces each. The latency is that of the records, from the decoded frame to the record written;
a frame done is one whose record is `ok`. Medians of the runs.
"""

import argparse
import statistics
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.against import Checkout, Record, read_records
from bench.document import latency_ms
from bench.measure import say
from pipeline.common.errors import UserError
from stages.capture.sources.demo import FRAMES
from tests.support.mjpeg import MjpegCamera
from tools.measuring import EndlessRun, add_against, checkouts, make_parser, run_program, table

RUNS: Final = 3
SECONDS: Final = 30.0
FPS: Final = 30.0
SIZE: Final = (640, 480)
WARM_UP_S: Final = 20.0
"""Not counted, after each camera's first frame: up to commit 36390dd a spare process is loading then."""


class Scene(NamedTuple):
    """Cameras, and the faces before each."""

    cameras: int
    faces: int

    def __str__(self) -> str:
        return f"{self.cameras} camera{'s' * (self.cameras > 1)} with {self.faces} faces"


SCENES: Final = (Scene(1, 4), Scene(4, 2))


class LiveRun(NamedTuple):
    """One run; all cameras together."""

    captured_fps: float
    done_fps: float
    faces_per_frame: float  # of frames done, as is the latency
    latency_ms: list[float]
    dropped: dict[str, int]  # by reason
    captured: int

    @property
    def dropped_percent(self) -> float:
        return 100 * sum(self.dropped.values()) / self.captured


def run_live(checkout: Checkout, scene: Scene, seconds: float, folder: Path) -> LiveRun:
    """Run the pipeline on a scene for so long after its warm-up. Raises UserError if it fails."""
    with ExitStack() as stack:
        cameras = [
            stack.enter_context(MjpegCamera(FPS, scene.faces, SIZE, FRAMES)) for _ in range(scene.cameras)
        ]
        words = [word for camera in cameras for word in ("--source", camera.url)]
        run = stack.enter_context(EndlessRun(checkout, words, folder / "results.jsonl"))
        run.wait_for_record()
        run.go_on(WARM_UP_S + seconds + 1.0)  # so that the last frame of the time has its record
        run.interrupt()
    return summed(read_records(run.results), scene.cameras, seconds)


def summed(records: list[Record], cameras: int, seconds: float) -> LiveRun:
    """Return the outcomes of the frames captured between the warm-up and `seconds` later.

    Raises UserError unless there are frames done of as many cameras.
    """
    begun: dict[str, float] = {}
    for record in records:
        begun.setdefault(record.source, record.time_s + WARM_UP_S)
    counted = [r for r in records if begun[r.source] <= r.time_s < begun[r.source] + seconds]
    done = [record for record in counted if record.status == "ok"]
    if len({record.source for record in done}) != cameras:
        raise UserError(f"tools.live: expected frames of {cameras} cameras, found {sorted(begun)}")
    dropped = Counter(record.reason for record in counted if record.status != "ok")
    return LiveRun(
        len(counted) / seconds,
        len(done) / seconds,
        sum(len(record.faces) for record in done) / len(done),
        [record.latency_ms for record in done],
        dict(sorted(dropped.items())),
        len(counted),
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all checkouts in turn, scene by scene, and print the medians."""
    places = checkouts(options)
    scenes = []
    with tempfile.TemporaryDirectory(prefix="live-") as folder:
        for scene in SCENES:
            found: dict[Checkout, list[LiveRun]] = {place: [] for place in places}
            for number in range(1, options.runs + 1):
                for place in places:
                    run = run_live(place, scene, options.seconds, Path(folder))
                    found[place].append(run)
                    say(f"{scene}, run {number}, {place.name}: {run.done_fps:.1f} frames/s")
            scenes += [describe(scene, place, runs) for place, runs in found.items()]
    header = (
        "cameras",
        "checkout",
        "captured a second",
        "done a second",
        "faces",
        "p50, p95, p99 ms",
        "dropped",
    )
    print(table(header, [row(scene) for scene in scenes]))
    return {"seconds": options.seconds, "fps": FPS, "size": SIZE, "runs": options.runs, "scenes": scenes}


def describe(scene: Scene, checkout: Checkout, runs: list[LiveRun]) -> dict[str, Any]:
    """Return the medians of a checkout's runs over a scene."""
    dropped: Counter[str] = Counter()
    for run in runs:
        dropped.update(run.dropped)
    return {
        "cameras": scene.cameras,
        "faces": scene.faces,
        **checkout.describe(),
        "captured_fps": round(statistics.median(run.captured_fps for run in runs), 2),
        "done_fps": round(statistics.median(run.done_fps for run in runs), 2),
        "done_fps_runs": [round(run.done_fps, 2) for run in runs],
        "faces_per_frame": round(statistics.median(run.faces_per_frame for run in runs), 2),
        "latency_ms": latency_ms([run.latency_ms for run in runs]),
        "dropped_percent": round(statistics.median(run.dropped_percent for run in runs), 2),
        "dropped": dict(dropped),
    }


def row(figures: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    latency = ", ".join(f"{figures['latency_ms'][name]:.0f}" for name in ("p50", "p95", "p99"))
    return [
        str(Scene(figures["cameras"], figures["faces"])),
        f"{figures['name']} ({figures['commit']})",
        f"{figures['captured_fps']:.1f}",
        f"{figures['done_fps']:.1f}",
        f"{figures['faces_per_frame']:.1f}",
        latency,
        f"{figures['dropped_percent']:.1f} %",
    ]


def main() -> int:
    parser = make_parser("tools.live", __doc__, RUNS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of each run (default {SECONDS:.0f})")
    add_against(parser)
    return run_program(measure, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
