"""The course of a training for TensorBoard: `tensorboard --logdir DIR`."""

from dataclasses import asdict
from pathlib import Path

from tensorboardX import SummaryWriter

from trainer.files import make_folder
from trainer.fitting.history import Progress


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
