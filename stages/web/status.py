"""The state of a run as the page and programs get it: made of the broker's reports and of latencies."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import quantiles
from typing import Any, Final

from pipeline.supervisor.metrics import Process, family, update_processes
from pipeline.wire.messages import SourceReport, StatusReport

RATES_OVER_S: Final = 1.0


class RunStatus:
    """Takes in reports; rates are over the last second or so."""

    def __init__(self) -> None:
        self.report: StatusReport | None = None
        self.fps: dict[str, float] = {}  # by source, frames written a second
        self.stage_fps: dict[str, float] = {}  # by role, frames that it has worked on a second
        self.processes: dict[str, Process] = {}
        self._since: StatusReport | None = None
        self._seconds = 0.0

    @property
    def names(self) -> list[str]:
        """The sources."""
        return [source.name for source in self.report.sources] if self.report else []

    def update(self, report: StatusReport) -> None:
        """Take in a report of the broker."""
        update_processes(self.processes, report)
        self.report = report
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
        self.stage_fps = {
            role: (count - since.steps.get(role, 0)) / self._seconds for role, count in report.steps.items()
        }
        self._since, self._seconds = report, 0.0

    def to_page(self, latency_ms: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        """Return what the page shows and `/api/status` gives."""
        report = self.report
        if report is None:
            return {"type": "status", "state": "starting", "sources": [], "processes": []}
        faces = sum(size * count for size, count in report.batches.items())
        return {
            "type": "status",
            "state": _state(report),
            "stopping": report.stopping,
            "elapsed_s": round(report.elapsed_s, 1),
            "sources": [self._source(source, latency_ms.get(source.name, ())) for source in report.sources],
            "stages": {role: round(fps, 1) for role, fps in self.stage_fps.items()},
            "mean_batch": round(faces / max(1, sum(report.batches.values())), 2),
            "processes": [
                {"name": name, "role": process.role, "state": process.state, "restarts": process.restarts}
                for name, process in sorted(self.processes.items())
            ],
        }

    def _source(self, source: SourceReport, latency_ms: Sequence[float]) -> dict[str, Any]:
        p50, p95 = percentiles(latency_ms)
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


def percentiles(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return p50 and p95; None without values."""
    if not values:
        return None, None
    cuts = quantiles([*values, *values], n=100, method="inclusive")
    return round(cuts[49], 1), round(cuts[94], 1)


def prometheus(page: Mapping[str, Any], viewers: int) -> str:
    """Return a status (`RunStatus.to_page`) in Prometheus' text format."""
    return "".join(f"{line}\n" for line in _metrics(page, viewers))


def _metrics(page: Mapping[str, Any], viewers: int) -> Iterator[str]:
    yield from family("emotions_viewers", "gauge", "Open pages and MJPEG streams.", [({}, viewers)])
    sources, processes = page["sources"], page["processes"]
    by_source = [({"source": source["name"]}, source) for source in sources]
    captured = [(labels, source["captured"]) for labels, source in by_source]
    yield from family("emotions_frames_captured_total", "counter", "Frames captured.", captured)
    outcomes: list[tuple[dict[str, str], float]] = []
    for labels, source in by_source:
        outcomes.append(({**labels, "status": "ok", "reason": ""}, source["ok"]))
        outcomes.append(({**labels, "status": "failed", "reason": ""}, source["failed"]))
        outcomes += [
            ({**labels, "status": "dropped", "reason": r}, n) for r, n in sorted(source["dropped"].items())
        ]
    yield from family("emotions_frames_total", "counter", "Frames by what became of them.", outcomes)
    in_flight = [(labels, source["in_flight"]) for labels, source in by_source]
    yield from family("emotions_frames_in_flight", "gauge", "Frames without an outcome yet.", in_flight)
    latency = [
        ({**labels, "quantile": quantile}, round(source["latency_ms"][key] / 1000, 4))
        for labels, source in by_source
        for key, quantile in (("p50", "0.5"), ("p95", "0.95"))
        if source["latency_ms"][key] is not None
    ]
    text = "From capture to record, of the latest frames."
    yield from family("emotions_latency_seconds", "gauge", text, latency)
    batch = page.get("mean_batch", 0)
    yield from family("emotions_batch_faces_mean", "gauge", "Faces in a call of the model.", [({}, batch)])
    up = [({"process": p["name"]}, int(p["state"] in ("running", "silent"))) for p in processes]
    yield from family("emotions_process_up", "gauge", "Whether a process takes part.", up)
    restarts = [({"process": p["name"]}, p["restarts"]) for p in processes]
    yield from family("emotions_process_restarts_total", "counter", "Restarts seen.", restarts)
