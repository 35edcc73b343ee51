"""The state of a run as the page and programs get it: made of the broker's reports and of latencies."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.supervisor.metrics import RunMetrics, percentiles
from pipeline.wire.messages import SourceReport, StatusReport

RATES_OVER_S: Final = 1.0


class RunStatus:
    """Takes in reports; rates are over the last second or so."""

    def __init__(self) -> None:
        self.metrics = RunMetrics()
        self.fps: dict[str, float] = {}  # by source, frames written a second
        self._since: StatusReport | None = None
        self._seconds = 0.0

    @property
    def names(self) -> list[str]:
        """The sources."""
        report = self.metrics.report
        return [source.name for source in report.sources] if report else []

    def update(self, report: StatusReport) -> None:
        """Take in a report of the broker."""
        self.metrics.receive(report)
        since = self._since
        if since is None or since.broker != report.broker:
            self._since, self._seconds = report, 0.0
            return
        self._seconds += report.interval_s
        if self._seconds < RATES_OVER_S:
            return
        before = {source.name: source.committed.ok for source in since.sources}
        self.fps = {
            source.name: (source.committed.ok - before.get(source.name, 0)) / self._seconds
            for source in report.sources
        }
        self._since, self._seconds = report, 0.0

    def to_page(self, latency_ms: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        """Return what the page shows and `/api/status` gives."""
        report = self.metrics.report
        if report is None:
            return {"type": "status", "state": "starting", "sources": [], "processes": []}
        faces = sum(size * count for size, count in report.batches.items())
        return {
            "type": "status",
            "state": _state(report),
            "stopping": report.stopping,
            "elapsed_s": round(report.elapsed_s, 1),
            "sources": [self._source(source, latency_ms.get(source.name, ())) for source in report.sources],
            "mean_batch": round(faces / max(1, sum(report.batches.values())), 2),
            "processes": [
                {"name": name, "role": process.role, "state": process.state, "restarts": process.restarts}
                for name, process in sorted(self.metrics.processes.items())
            ],
        }

    def _source(self, source: SourceReport, latency_ms: Sequence[float]) -> dict[str, Any]:
        p50, p95 = percentiles(latency_ms) or (None, None)
        return {
            "name": source.name,
            "kind": source.kind,
            "captured": source.captured,
            "ok": source.committed.ok,
            "dropped": source.committed.dropped,
            "failed": source.committed.failed,
            "in_flight": source.in_flight,
            "ended": source.ended and not source.in_flight,
            "error": source.error,
            "fps": round(self.fps.get(source.name, 0.0), 1),
            "latency_ms": {"p50": p50, "p95": p95},
        }


def _state(report: StatusReport) -> str:
    if report.finished:
        return "finished"
    if report.stopping:
        return "stopping"
    return "running" if report.started else "starting"
