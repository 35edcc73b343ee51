"""The progress of a training: a bar in a terminal, a line an epoch, and TensorBoard."""

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
from trainer.settings import Fitting, face_size


class ProgressBar:
    """A context manager that shows a bar for the current epoch and prints a line for each complete one."""

    def __init__(self, console: Console, fitting: Fitting) -> None:
        self._console = console
        self._fitting = fitting
        self._rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,  # a log file gets only the lines
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
        """Print a line for the last epoch of `progress` and start the next bar."""
        self._console.print(epoch_line(progress, self._fitting))
        following = min(progress.epochs_done + 1, self._fitting.epochs)
        self._rich.reset(self._task, description=f"epoch {following}/{self._fitting.epochs}")


def epoch_line(progress: Progress, fitting: Fitting) -> str:
    """Return one line on the last epoch of `progress`."""
    last, kept = progress.history[-1], progress.kept
    best = f"  (best in epoch {kept.epoch})" if fitting.keep == "best" else ""
    return (
        f"epoch {last.epoch}/{fitting.epochs}  loss {last.loss:.3f}  top-1 {last.top1:.3f}  |  "
        f"validation {'  '.join(validation_words(last))}{best}  "
        f"{last.seconds:.1f} s, about {minutes_left(last, fitting):.0f} min left"
    )


def validation_words(epoch: Epoch) -> Iterator[str]:
    """Yield top-1 and loss of each output that was validated."""
    for name, top1, loss in (
        ("fer2013", epoch.validation_top1, epoch.validation_loss),
        ("consensus", epoch.validation_consensus_top1, epoch.validation_consensus_loss),
    ):
        if top1 is not None:
            yield f"{name} {top1:.3f} (loss {loss:.3f})"


def minutes_left(last: Epoch, fitting: Fitting) -> float:
    """Estimate from the seconds of the `last` epoch, in proportion to the pixels of a face in each epoch."""
    pixels = [face_size(fitting, number) ** 2 for number in range(last.epoch, fitting.epochs + 1)]
    return last.seconds / 60 * sum(pixels[1:]) / pixels[0]


class TensorBoardLog:
    """Writes the metrics of each epoch under `out`/tensorboard."""

    def __init__(self, out: Path) -> None:
        """Raises UserError if the folder can't be created."""
        self._folder = out / "tensorboard"
        make_folder(self._folder)
        self._writer: SummaryWriter | None = None

    def epoch(self, progress: Progress) -> None:
        """Write the last epoch of `progress`; later ones that an interrupted run wrote are removed."""
        last = progress.history[-1]
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=last.epoch)
        for name, value in asdict(last).items():
            if name != "epoch" and value is not None:
                self._writer.add_scalar(name, value, last.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Close the file, if one was opened."""
        if self._writer is not None:
            self._writer.close()
