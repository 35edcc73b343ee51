"""What a training came to, epoch by epoch."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; accuracies are fractions of 1, losses mean cross-entropy in nats.

    `loss` and `top1` are those on the augmented training batches as they were trained on.
    """

    epoch: int
    loss: float
    top1: float
    validation_loss: float
    validation_top1: float
    seconds: float


@dataclass
class Progress:
    """How far a training has come. `settings` is everything that its result depends on."""

    settings: dict[str, Any]
    history: list[Epoch] = field(default_factory=list)

    @property
    def epochs_done(self) -> int:
        """Complete epochs."""
        return len(self.history)

    @property
    def best(self) -> Epoch:
        """The epoch with the highest validation top-1, the first of equals. There must be one."""
        return max(self.history, key=lambda epoch: (epoch.validation_top1, -epoch.epoch))
