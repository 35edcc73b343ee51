"""The progress of a training, as a bar in a terminal and as plain lines elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from trainer.history import Epoch, Progress


class Bar:
    """A bar for the epoch at work and a line for each one done. A context manager."""

    def __init__(self, console: Console, epochs: int) -> None:
        self._console = console
        self._epochs = epochs
        self._rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            TimeRemainingColumn(),
            console=console,
            # A log file gets the lines alone.
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._rich.add_task(f"epoch 1/{epochs}", total=1)

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rich.stop()

    def step(self, done: int, steps: int) -> None:
        """Show `done` of the `steps` of this epoch."""
        self._rich.update(self._task, completed=done, total=steps)

    def epoch(self, progress: Progress) -> None:
        """Print a line for the last epoch of `progress` and begin the next bar."""
        self._console.print(line(progress.history[-1], progress.best, self._epochs))
        coming = min(progress.epochs_done + 1, self._epochs)
        self._rich.reset(self._task, description=f"epoch {coming}/{self._epochs}")


def line(last: Epoch, best: Epoch, epochs: int) -> str:
    """One line on the epoch `last` of `epochs`."""
    left = (epochs - last.epoch) * last.seconds / 60
    return (
        f"epoch {last.epoch}/{epochs}  loss {last.loss:.3f}  top-1 {last.top1:.3f}  |  "
        f"validation loss {last.validation_loss:.3f}  top-1 {last.validation_top1:.3f}  "
        f"(best {best.validation_top1:.3f} in epoch {best.epoch})  "
        f"{last.seconds:.1f} s, about {left:.0f} min left"
    )
