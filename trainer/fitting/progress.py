"""The progress of a training, as a bar in a terminal and as plain lines elsewhere."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from tensorboardX import SummaryWriter

from pipeline.common.files import make_folder
from trainer.fitting.checkpoint import Epoch, Progress
from trainer.settings import Fitting, size_in


class Log:
    """Writes each epoch's figures under `out`/tensorboard."""

    def __init__(self, out: Path) -> None:
        """Raises UserError if the folder can't be made."""
        self._folder = out / "tensorboard"
        make_folder(self._folder)
        self._writer: SummaryWriter | None = None

    def epoch(self, progress: Progress) -> None:
        """Write the last epoch of `progress`. What an earlier run wrote of later ones is taken back."""
        last = progress.history[-1]
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=last.epoch)
        for name, value in asdict(last).items():
            if name != "epoch" and value is not None:
                self._writer.add_scalar(name, value, last.epoch)
        self._writer.flush()

    def close(self) -> None:
        """End the writing."""
        if self._writer is not None:
            self._writer.close()


# ---- The progress of a training, as a bar in a terminal and as plain lines elsewhere.


class Bar:
    """A bar for the epoch at work and a line for each one done. A context manager."""

    def __init__(self, console: Console, fitting: Fitting) -> None:
        self._console = console
        self._fitting = fitting
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
        self._task = self._rich.add_task(f"epoch 1/{fitting.epochs}", total=1)

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
        self._console.print(line(progress, self._fitting))
        coming = min(progress.epochs_done + 1, self._fitting.epochs)
        self._rich.reset(self._task, description=f"epoch {coming}/{self._fitting.epochs}")


def line(progress: Progress, fitting: Fitting) -> str:
    """One line on the last epoch of `progress`."""
    last, kept = progress.history[-1], progress.kept
    best = f"  (best in epoch {kept.epoch})" if fitting.keep == "best" else ""
    return (
        f"epoch {last.epoch}/{fitting.epochs}  loss {last.loss:.3f}  top-1 {last.top1:.3f}  |  "
        f"validation {'  '.join(validated(last))}{best}  "
        f"{last.seconds:.1f} s, about {minutes_left(last, fitting):.0f} min left"
    )


def validated(epoch: Epoch) -> Iterator[str]:
    """What is known of each output, in words."""
    for name, top1, loss in (
        ("fer2013", epoch.validation_top1, epoch.validation_loss),
        ("consensus", epoch.validation_consensus_top1, epoch.validation_consensus_loss),
    ):
        if top1 is not None:
            yield f"{name} {top1:.3f} (loss {loss:.3f})"


def minutes_left(last: Epoch, fitting: Fitting) -> float:
    """From the seconds of the `last` epoch; an epoch costs as much as its faces have pixels."""
    pixels = [size_in(fitting, number) ** 2 for number in range(last.epoch, fitting.epochs + 1)]
    return last.seconds / 60 * sum(pixels[1:]) / pixels[0]
