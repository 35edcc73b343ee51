"""`python -m tools.startup [--against DIR]`: time to the first record, and memory.

Starts `python run.py --source demo --display none --results FILE` again and again and takes the time from the
start of the process to the first line in the file. The demo is repeated while the memory is looked at: the
proportional set size (PSS) of run.py and all its processes, in which a page that several share counts once,
from 2 s to 5 s after the first record. Medians of the runs, after one of each that is not counted. Linux
only.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil  # type: ignore[import-untyped]

from bench.against import Checkout
from bench.measure import say
from pipeline.common.errors import UserError
from tools.measuring import EndlessRun, add_against, checkouts, make_parser, run_program, spread, table

RUNS: Final = 5
SETTLE_S: Final = 2.0
LOOKS: Final = 7
LOOK_EVERY_S: Final = 0.5
MB: Final = 1e6


class Start(NamedTuple):
    """One run."""

    first_record_s: float
    pss_mb: dict[str, float]  # by process, 1 MB = 1,000,000 bytes
    total_mb: float


def measure_start(checkout: Checkout, source: str, folder: Path) -> Start:
    """Start the pipeline, wait for its first record, look at its memory and end it."""
    words = ["--source", source, "--set", "capture.repeat=0"]
    with EndlessRun(checkout, words, folder / "results.jsonl") as run:
        run.wait_for_record()
        first_s = time.monotonic() - run.started_s
        looks = []
        for look in range(LOOKS):
            run.go_on(LOOK_EVERY_S if look else SETTLE_S)
            looks.append(pss_mb(run.process.pid))
        run.interrupt()
    names = looks[-1]
    return Start(
        first_s,
        {name: statistics.median(look.get(name, 0.0) for look in looks) for name in names},
        statistics.median(sum(look.values()) for look in looks),
    )


def pss_mb(pid: int) -> dict[str, float]:
    """Return the PSS in MB of a process and all below it, by the last word of their commands."""
    parent = psutil.Process(pid)
    held: Counter[str] = Counter()
    for process in [parent, *parent.children(recursive=True)]:
        try:
            name = "run.py" if process.pid == pid else process.cmdline()[-1]
            held[name] += process.memory_full_info().pss / MB
        except psutil.NoSuchProcess:  # it has just ended
            continue
    return dict(held)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all checkouts in turn and print the medians."""
    if not sys.platform.startswith("linux"):
        raise UserError("tools.startup: PSS is read from /proc, which Linux alone has")
    places = checkouts(options)
    found: dict[Checkout, list[Start]] = {place: [] for place in places}
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        for number in range(options.runs + 1):
            for place in places:
                start = measure_start(place, options.source, Path(folder))
                say(f"{place.name}, run {number}: {start.first_record_s:.2f} s, {start.total_mb:.0f} MB")
                if number:  # the first warms the disk's cache
                    found[place].append(start)
    figures = [describe(place, starts) for place, starts in found.items()]
    print(table(("checkout", "first record, s", "PSS, MB", "processes"), [row(one) for one in figures]))
    return {"source": options.source, "runs": options.runs, "checkouts": figures}


def describe(checkout: Checkout, starts: list[Start]) -> dict[str, Any]:
    """Return the medians of a checkout's runs, and all of them."""
    names = starts[0].pss_mb
    return {
        **checkout.describe(),
        "first_record_s": round(statistics.median(one.first_record_s for one in starts), 3),
        "first_record_s_runs": [round(one.first_record_s, 3) for one in starts],
        "pss_mb": round(statistics.median(one.total_mb for one in starts), 1),
        "pss_mb_runs": [round(one.total_mb, 1) for one in starts],
        "pss_mb_by_process": {
            name: round(statistics.median(one.pss_mb.get(name, 0.0) for one in starts), 1) for name in names
        },
    }


def row(figures: dict[str, Any]) -> list[str]:
    """Return a line of the table: medians, and the extremes in brackets."""
    times, memory = spread(figures["first_record_s_runs"]), spread(figures["pss_mb_runs"])
    return [
        f"{figures['name']} ({figures['commit']})",
        f"{times.median:.2f} ({times.least:.2f}–{times.greatest:.2f})",
        f"{memory.median:.0f} ({memory.least:.0f}–{memory.greatest:.0f})",
        str(len(figures["pss_mb_by_process"])),
    ]


def main() -> int:
    parser = make_parser("tools.startup", __doc__, RUNS)
    parser.add_argument("--source", metavar="S", default="demo", help="demo or demo:N (default demo)")
    add_against(parser)
    return run_program(measure, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
