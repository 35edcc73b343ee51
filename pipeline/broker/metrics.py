"""What the broker measures of a run as it goes."""

from collections import Counter

from pipeline.wire.limits import MAX_LATENCIES
from pipeline.wire.messages import Role


class Metrics:
    """Counts since the start, and the latencies since the last report."""

    def __init__(self) -> None:
        self.steps: Counter[Role] = Counter()  # frames
        self.busy_ns: Counter[Role] = Counter()  # time in the steps
        self.batches: Counter[int] = Counter()  # items in a batch -> how often
        self.deliveries = 0  # outcomes sent to display
        self.bad_messages = 0
        self.late_answers = 0
        self._latency_ns: list[int] = []
        self._reported_ns: int | None = None

    def step(self, role: Role, frames: int, busy_ns: int) -> None:
        self.steps[role] += frames
        self.busy_ns[role] = min(self.busy_ns[role] + busy_ns, 2**62)  # as much as a message holds

    def add_latencies(self, latency_ns: list[int]) -> None:
        self._latency_ns.extend(latency_ns[: MAX_LATENCIES - len(self._latency_ns)])

    def take(self, now_ns: int) -> tuple[float, list[int]]:
        """Seconds since the last call, and the latencies written since then."""
        interval_s = 0.0 if self._reported_ns is None else (now_ns - self._reported_ns) / 1e9
        latency_ns, self._latency_ns, self._reported_ns = self._latency_ns, [], now_ns
        return interval_s, latency_ns
