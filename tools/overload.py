"""`python -m tools.overload`: four sources at 30 frames a second on two cores, far more than they can handle.

Latency must stay bounded, every frame must have an outcome, every source its share. Prints a table and ends
with 1 otherwise. The cameras are MJPEG streams that this process serves on the same cores.
"""

import argparse
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from tests.support.mjpeg import MjpegCamera
from tests.support.runs import Ended, Run, read_jsonl
from tools.faults import OPTIONS, starter
from tools.measuring import table

CAMERAS: Final = 4
FPS: Final = 30.0
WAIT_MS: Final = 500.0
"""`broker.live_max_wait_ms`: how old a frame can be when a detector takes it."""

STEPS_MS: Final = 1000.0
"""More than detection, classification and writing of a source's eight frames past their mailbox take here."""

LEAST_SHARE: Final = 0.8
"""Ok frames of the source with the fewest against that with the most."""

_BALANCE: Final = re.compile(r"^(.+): captured (\d+) = ok (\d+) \+ dropped (\d+).* \+ failed (\d+)$")
HEADER: Final = ("source", "captured a second", "ok", "dropped", "p50 ms", "p95 ms", "longest ms")


class Share(NamedTuple):
    """The outcome of one source."""

    source: str
    captured: int
    captured_fps: float
    ok: int
    dropped: dict[str, int]  # by reason
    failed: int
    latency_ms: tuple[float, ...]  # of ok frames: p50, p95, longest


def shares(records: Sequence[dict[str, Any]]) -> list[Share]:
    """Take a run's records apart by source. Raises AssertionError unless each frame has one, in order."""
    found = []
    for source in sorted({record["source"] for record in records}):
        mine = [record for record in records if record["source"] == source]
        assert [record["frame"] for record in mine] == list(range(len(mine))), f"{source}: not in order"
        taken = [record["latency_ms"] for record in mine if record["status"] == "ok"]
        dropped = Counter(record["reason"] for record in mine if record["status"] == "dropped")
        seconds = mine[-1]["time_s"] - mine[0]["time_s"]
        found.append(
            Share(
                source,
                len(mine),
                round((len(mine) - 1) / seconds, 2),
                len(taken),
                dict(sorted(dropped.items())),
                sum(record["status"] == "failed" for record in mine),
                tuple(round(float(ms), 1) for ms in np.percentile(taken or [np.nan], (50, 95, 100))),
            )
        )
    return found


def problems(found: Sequence[Share], stdout: str, steps_ms: float = STEPS_MS) -> list[str]:
    """What was promised and not kept. `stdout` holds the run's own balance."""
    said = [match.groups() for line in stdout.splitlines() if (match := _BALANCE.match(line))]
    balances = {source: tuple(map(int, counts)) for source, *counts in said}
    wrong = []
    for share in found:
        counted = share.captured, share.ok, sum(share.dropped.values()), share.failed
        if balances.get(share.source) != counted or share.captured != sum(counted[1:]):
            wrong.append(
                f"{share.source}: the balance is {balances.get(share.source)}, the records {counted}"
            )
        if share.latency_ms[2] > WAIT_MS + steps_ms:
            wrong.append(f"{share.source}: a frame took {share.latency_ms[2]:.0f} ms")
        if not share.dropped:
            wrong.append(f"{share.source}: nothing was dropped, so that this was no overload")
    if len(found) != CAMERAS or evenness(found) < LEAST_SHARE:
        wrong.append(f"shares are uneven: {[share.ok for share in found]} frames")
    return wrong


def evenness(found: Sequence[Share]) -> float:
    """Ok frames of the source with the fewest against that with the most: 1 is even."""
    taken = [share.ok for share in found]
    return min(taken) / max(taken)


def overload(run: Run, results: Path, seconds: float) -> Ended:
    """Let the run go on for so long after its first records, then end it as Ctrl-C does."""
    run.until_records(results, 1)
    until_s = time.monotonic() + seconds
    run.until(lambda: time.monotonic() >= until_s)
    run.signal(signal.SIGINT)
    return run.end()


def row(share: Share) -> tuple[object, ...]:
    dropped = ", ".join(f"{reason} {count}" for reason, count in share.dropped.items())
    return share.source, f"{share.captured_fps:.1f}", share.ok, dropped, *share.latency_ms


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="table.key=value")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    settings = [word for one in options.set for word in ("--set", one)]
    with ExitStack() as stack:
        cameras = [stack.enter_context(MjpegCamera(FPS, size=(640, 480))) for _ in range(CAMERAS)]
        start, folder = stack.enter_context(starter())
        results = folder / "r.jsonl"
        sources = [word for camera in cameras for word in ("--source", camera.url)]
        run = start(*OPTIONS, *settings, *sources, "--results", results)
        done = overload(run, results, options.seconds)
        found = shares(read_jsonl(results))
    wrong = problems(found, done.stdout)
    print(table(HEADER, list(map(row, found))))
    print(f"evenness {evenness(found):.2f}; {len(wrong)} problems", *wrong, sep="\n")
    if options.json:
        figures = {"cameras": CAMERAS, "fps": FPS, "cores": options.cores, "problems": wrong}
        figures |= {"evenness": evenness(found), "sources": [share._asdict() for share in found]}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
