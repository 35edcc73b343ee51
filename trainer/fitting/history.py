"""What a training came to, epoch by epoch."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; accuracies are fractions of 1, losses mean cross-entropy in nats.

    `loss` and `top1` are those on the augmented training batches as they were trained on, the latter of the
    first output. The validation of an output that the network hasn't, or without votes, is None.
    """

    epoch: int
    loss: float
    top1: float
    validation_loss: float | None
    validation_top1: float | None
    validation_consensus_loss: float | None
    validation_consensus_top1: float | None
    seconds: float

    @property
    def score(self) -> float:
        """By which the best epoch is chosen: the sum of top-1 over the outputs."""
        return (self.validation_top1 or 0.0) + (self.validation_consensus_top1 or 0.0)


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
        """The epoch with the highest score on validation, the first of equals. There must be one."""
        return max(self.history, key=lambda epoch: (epoch.score, -epoch.epoch))

    @property
    def kept(self) -> Epoch:
        """The epoch whose weights are kept, by the settings. There must be one."""
        return self.best if self.settings["fitting"]["keep"] == "best" else self.history[-1]
