"""`python -m tools.faults`: every fault of the matrix, for file and live sources, against real runs.

Processes are killed and stopped at random moments; what is left is compared with an undisturbed run. Prints
the table as Markdown, and ends with 1 if anything that is promised was not kept. Takes a quarter of an hour.
"""

import argparse
import os
import platform
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.runs import Start, starting
from tools.faults.cases import Case, all_cases
from tools.faults.drive import run_case, undisturbed
from tools.faults.outcome import Outcome
from tools.faults.table import HEADER, markdown, row, write_json

LIVE_LIMIT_S = 5.0
"""Live results are promised to be back by then, except where a stage's own first step may take longer."""

OPTIONS = ("--display", "none", "--set", "detect.workers=2")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose name holds this text")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default 1)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the outcomes there")
    options = parser.parse_args()
    cases = [case for case in all_cases() if options.only in f"{case.kind} {case.fault}"]
    outcomes = run_all(cases, options.seed, options.json)
    print("\n" + markdown(outcomes))
    late = [o for o in outcomes if o.case.kind == "live" and o.recovery_s > LIVE_LIMIT_S]
    bad = [o for o in outcomes if o.problems or o.lost or o.duplicated]
    over = f"{len(late)} live ones took over {LIVE_LIMIT_S:.0f} s"
    print(f"{len(outcomes)} faults: {len(bad)} broke a promise, {over}")
    return 1 if bad or late else 0


def run_all(cases: list[Case], seed: int, path: Path | None) -> list[Outcome]:
    """Run them one after the other; the file `path` is written anew after each."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    moment = random.Random(seed)
    outcomes = []
    print(" | ".join(HEADER))
    with starter() as (start, folder):
        expected = undisturbed(start, OPTIONS, folder)
        for number, case in enumerate(cases):
            place = folder / str(number)
            place.mkdir()
            try:
                outcome = run_case(case, start, OPTIONS, place, moment, expected)
            except AssertionError as error:  # the run did not do what was waited for: the next may
                outcome = Outcome(case, 0, 0, 0, {}, 0, float("inf"), [str(error).splitlines()[0]])
                print(error, file=sys.stderr)
            outcomes.append(outcome)
            if path is not None:
                write_json(path, {"seed": seed, "machine": machine}, outcomes)
            print(" | ".join(row(outcome)), flush=True)
    return outcomes


@contextmanager
def starter() -> Iterator[tuple[Start, Path]]:
    """A function that starts runs, and a folder for what they write; both gone at the end."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    with tempfile.TemporaryDirectory(prefix="f-") as folder, starting(environment) as start:
        yield start, Path(folder)


if __name__ == "__main__":
    sys.exit(main())
