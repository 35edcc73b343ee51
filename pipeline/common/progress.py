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
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn(counter), TimeRemainingColumn()
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


@contextmanager
def progress(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of parts, of `total`, that have just been done.

    A terminal gets a bar, anything else a line every EVERY_S seconds, so short work prints nothing.
    """
    console = Console(stderr=True, highlight=False, markup=False)
    started_s = printed_s = time.monotonic()
    done = 0
    with bar(console) as drawn:
        task = drawn.add_task(text, total=total)

        def advance(count: int) -> None:
            nonlocal done, printed_s
            done += count
            drawn.advance(task, count)
            now_s = time.monotonic()
            if not console.is_terminal and done < total and now_s - printed_s >= EVERY_S:
                printed_s = now_s
                left_s = (now_s - started_s) * (total - done) / done
                print(f"{text}: {done:,} of {total:,}, about {left_s:.0f} s left", file=sys.stderr)

        yield advance
