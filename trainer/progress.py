"""Progress with the time left, on standard error, of whatever takes more than a few seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

EVERY_S: Final = 3.0
"""Between two lines, where there is no terminal for a bar."""


def bar(console: Console, counter: str = "{task.completed:,.0f}/{task.total:,.0f}") -> Progress:
    """Return a bar that vanishes when it is done; it is not drawn where `console` is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(counter),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


@contextmanager
def progress(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told of each part of `total` that is done.

    A terminal gets a bar, anything else a line every EVERY_S seconds; what is done sooner says nothing.
    """
    console = Console(stderr=True, highlight=False, markup=False)
    started_s = said_s = time.monotonic()
    done = 0
    with bar(console) as drawn:
        task = drawn.add_task(text, total=total)

        def advance(count: int) -> None:
            nonlocal done, said_s
            done += count
            drawn.advance(task, count)
            now_s = time.monotonic()
            if not console.is_terminal and done < total and now_s - said_s >= EVERY_S:
                said_s = now_s
                left_s = (now_s - started_s) * (total - done) / done
                print(f"{text}: {done:,} of {total:,}, about {left_s:.0f} s left", file=sys.stderr)

        yield advance
