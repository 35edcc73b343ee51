"""What the measuring programs share: options, checkouts that take turns, exit statuses."""

import argparse
import contextlib
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.against import END_S, Checkout, Run, sides
from bench.command import start
from bench.document import write_document
from pipeline.common.errors import UserError

LIMIT_S: Final = 300.0
"""Until the first record: longer than any start takes."""

LOOK_S: Final = 0.005
"""Between two looks at a run that is waited for, which is the resolution of times."""


class Spread(NamedTuple):
    """Median, least and greatest of several runs."""

    median: float
    least: float
    greatest: float


def spread(values: Iterable[float]) -> Spread:
    """Return the spread of values, of which there must be at least one."""
    ordered = sorted(values)
    return Spread(float(statistics.median(ordered)), ordered[0], ordered[-1])


class EndlessRun(Run):
    """A run that goes on until it is interrupted."""

    def __init__(self, checkout: Checkout, words: Sequence[str], results: Path) -> None:
        """Start it with `words` after the checkout's settings; it writes `results`, which is replaced."""
        results.unlink(missing_ok=True)
        self.results = results
        self.started_s = time.monotonic()
        super().__init__(checkout, [*words, "--results", str(results)])

    def wait_for_record(self) -> None:
        """Wait until it has written its first record. Raises UserError if it ends or hangs before."""
        while not (self.results.exists() and self.results.stat().st_size > 0):
            self.go_on(LOOK_S)
            if time.monotonic() - self.started_s > LIMIT_S:
                raise UserError(self.failed(f"no record within {LIMIT_S:.0f} s"))

    def go_on(self, seconds: float) -> None:
        """Let it run for so long. Raises UserError if it ends before."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
            raise UserError(self.failed("ended too early"))

    def interrupt(self) -> None:
        """End it as Ctrl-C does. Raises UserError if it does not end so."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            raise UserError(self.failed(f"did not end within {END_S:.0f} s")) from None
        self.wait(128 + signal.SIGINT)


def make_parser(module: str, description: str | None, runs: int) -> argparse.ArgumentParser:
    """Return a parser with the options that all of them have; `runs`: the default of --runs."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, metavar="N", default=runs, help=f"of each (default {runs})")
    parser.add_argument(
        "--set", metavar="table.key=value", action="append", default=[], help="a setting of this pipeline"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


def add_against(parser: argparse.ArgumentParser) -> None:
    """Add the options of a second checkout."""
    parser.add_argument("--against", type=Path, metavar="DIR", help="measure the checkout in DIR in turn")
    parser.add_argument(
        "--against-set", metavar="table.key=value", action="append", default=[], help="a setting of that one"
    )


def checkouts(options: argparse.Namespace) -> list[Checkout]:
    """Return the checkouts that the options name. Raises UserError for a folder that is none."""
    return sides(options.against, options.set, options.against_set)


def run_program(measure: Callable[[argparse.Namespace], dict[str, Any]], options: argparse.Namespace) -> int:
    """Measure, and write the figures with the machine; return the exit status."""
    try:
        machine = start()
        figures = {"machine": machine, **measure(options)}
        if options.json:
            write_document(options.json, figures)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
