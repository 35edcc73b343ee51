"""How many processes a role should have, by how long its work waits. Pure logic."""

from collections import deque
from typing import Final, NamedTuple

from pipeline.wire.messages import StatusReport

LATE_S: Final = 1.5
"""A process is added after work has waited too long, on average, for this time."""

BUSY: Final = 0.7
"""A process is stopped if the others would then be busy for less than this share of their time."""


class Sample(NamedTuple):
    now_s: float
    age_s: float
    busy_ns: int


class Scaler:
    """Decides for one role, from the broker's reports."""

    def __init__(self, role: str, least: int, most: int, target_age_s: float, idle_s: float) -> None:
        """`target_age_s`: how long work may wait; `idle_s`: for how long it must be too little."""
        self.least = least
        self.most = most
        self._role = role
        self._target_age_s = target_age_s
        self._idle_s = idle_s
        self._broker = ""
        self._samples: deque[Sample] = deque()

    def receive(self, report: StatusReport, running: int, ready: int, now_s: float) -> int:
        """Return how many processes there should be: one more or less than run now, or as many.

        `ready`: those that have joined the broker. While one is on its way, nothing is decided.
        """
        queue = report.queues.get(self._role)
        if queue is None or report.broker != self._broker or ready < running or not report.started:
            self._broker = report.broker
            self._samples.clear()
            return max(running, self.least)
        self._samples.append(Sample(now_s, queue.age_s, report.busy_ns.get(self._role, 0)))
        while now_s - self._samples[0].now_s > max(self._idle_s, LATE_S):
            self._samples.popleft()
        change = self._late(now_s) if running < self.most else 0
        if not change and running > self.least:
            change = -self._idle(now_s, running)
        if change:
            self._samples.clear()
        return running + change

    def _late(self, now_s: float) -> int:
        recent = [sample.age_s for sample in self._samples if now_s - sample.now_s <= LATE_S]
        whole = now_s - self._samples[0].now_s >= LATE_S
        return int(whole and sum(recent) / len(recent) > self._target_age_s)

    def _idle(self, now_s: float, running: int) -> int:
        first, last = self._samples[0], self._samples[-1]
        passed_s = now_s - first.now_s
        if passed_s < self._idle_s * 0.95:
            return 0
        busy = (last.busy_ns - first.busy_ns) / 1e9 / passed_s  # the average number of busy processes
        age_s = sum(sample.age_s for sample in self._samples) / len(self._samples)
        return int(busy < BUSY * (running - 1) and age_s < self._target_age_s)
