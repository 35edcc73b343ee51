"""How long a stage may be silent: slow must not be taken for hung, nor hung be waited for."""

from collections import deque
from typing import Final

from pipeline.broker.peers import Peer
from pipeline.wire.messages import Role

SILENT_STEPS: Final = 20
"""A stage may be silent for so many of the longest steps that its work can be expected to take."""

FIRST_STEP_NS: Final = 10_000_000_000
"""... and for so long over a first step, when it is not known yet how long one takes."""

WINDOW_NS: Final = 10_000_000_000
"""A window that is dragged, or whose menu is open, holds its loop on some systems for as long as it is."""

REMEMBERED: Final = 64
"""Steps of a role: one that was held up, as by a suspended machine, is forgotten in time."""


class Liveness:
    """Learns for each role how long a unit of its work takes: a pixel, a crop, a record.

    By role and not by process: one that has just been started is not taken for hung over its first step.
    """

    def __init__(self, timeout_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self._paces: dict[Role, deque[float]] = {}  # ns a unit

    def learn(self, role: Role, units: int, step_ns: int) -> None:
        if units > 0:
            self._paces.setdefault(role, deque(maxlen=REMEMBERED)).append(step_ns / units)

    def limit_ns(self, peer: Peer) -> int:
        """Stages beat between steps, so that one step at a time is all that explains a silence."""
        timeout_ns = max(self._timeout_ns, WINDOW_NS) if peer.hello.watched else self._timeout_ns
        units = peer.units
        if not units:
            return timeout_ns
        paces = self._paces.get(peer.hello.role)
        step_ns = SILENT_STEPS * max(paces) * units if paces else FIRST_STEP_NS
        return max(timeout_ns, round(step_ns))
