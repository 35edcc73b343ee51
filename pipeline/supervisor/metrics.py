"""Serves `metrics.address`: figures in Prometheus' text format, and the health of the supervisor."""

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import quantiles
from threading import Thread
from typing import Any, Final, Literal

from pipeline.common.errors import UserError
from pipeline.wire.messages import MAX_PEERS, SourceReport, StatusReport

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Upper bounds of the histograms' buckets."""

SILENT_S: Final = 1.0
STUCK_S: Final = 5.0
"""A supervisor whose loop has stopped for longer is not healthy."""

Samples = Sequence[tuple[Mapping[str, str], float]]


@dataclass
class Process:
    """The state of a stage's process, from the reports."""

    role: str
    state: Literal["running", "silent", "away", "ended"] = "running"  # away: being restarted
    restarts: int = 0


def update_processes(processes: dict[str, Process], report: StatusReport) -> None:
    """Update the processes' states. A missing one is being restarted, unless the run ends."""
    present = {peer.name: peer for peer in report.peers if not peer.timed_out}
    for name, peer in present.items():
        if name not in processes and len(processes) >= MAX_PEERS:
            processes.pop(next(iter(processes)))
        process = processes.setdefault(name, Process(peer.role))
        process.restarts += process.state == "away"
        process.state = "silent" if peer.silent_s > SILENT_S else "running"
    over = bool(report.finished or report.stopping)
    captured = any(source.ended for source in report.sources)  # whose capture has ended for good
    for name, process in processes.items():
        if name not in present:
            process.state = "ended" if over or (captured and process.role == "capture") else "away"


class RunMetrics:
    """Figures from the broker's reports. Counters restart with a new broker, which Prometheus allows for."""

    def __init__(self) -> None:
        self.report: StatusReport | None = None
        self.processes: dict[str, Process] = {}
        self._latency = Histogram(LATENCY_S)

    def receive(self, report: StatusReport) -> None:
        if self.report is None or self.report.broker != report.broker:
            self._latency = Histogram(LATENCY_S)
        for latency_ns in report.latency_ns:
            self._latency.add(latency_ns / 1e9)
        update_processes(self.processes, report)
        self.report = report

    def text(self) -> str:
        """Return all metrics in Prometheus' text format."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        report = self.report
        if report is None:
            return
        yield from _of_sources(report.sources)
        waiting = [({"role": role}, queue.waiting) for role, queue in report.queues.items()]
        yield from family("emotions_queue_length", "gauge", "Frames or faces that wait.", waiting)
        ages = [({"role": role}, round(queue.age_s, 4)) for role, queue in report.queues.items()]
        text = "For how long the one that waits longest has waited."
        yield from family("emotions_queue_age_seconds", "gauge", text, ages)
        yield from self._latency.lines("emotions_frame_latency_seconds", "From capture to record.")
        batches = Histogram(BATCHES)
        for size, count in report.batches.items():
            batches.add(size, count)
        yield from batches.lines("emotions_batch_size", "Faces in one call of a model.")
        steps = [({"role": role}, count) for role, count in report.steps.items()]
        yield from family("emotions_step_frames_total", "counter", "Frames that a stage has handled.", steps)
        busy = [({"role": role}, round(busy_ns / 1e9, 3)) for role, busy_ns in report.busy_ns.items()]
        yield from family("emotions_step_busy_seconds_total", "counter", "Time that they took.", busy)
        text = "Pixels that the broker holds."
        yield from family("emotions_held_bytes", "gauge", text, [({}, report.held_bytes)])
        text = "Messages that were refused."
        yield from family("emotions_bad_messages_total", "counter", text, [({}, report.bad_messages)])
        up = [({"process": n}, p.state in ("running", "silent")) for n, p in self.processes.items()]
        yield from family("emotions_process_up", "gauge", "Whether a process takes part.", up)
        restarts = [({"process": n}, p.restarts) for n, p in self.processes.items()]
        yield from family("emotions_process_restarts_total", "counter", "Restarts seen.", restarts)


def _of_sources(sources: Sequence[SourceReport]) -> Iterator[str]:
    captured = [({"source": source.name}, source.captured) for source in sources]
    yield from family("emotions_frames_captured_total", "counter", "Frames captured.", captured)
    outcomes: list[tuple[Mapping[str, str], float]] = []
    for source in sources:
        labels, done = {"source": source.name}, source.committed
        outcomes.append(({**labels, "status": "ok", "reason": ""}, done.ok))
        outcomes.append(({**labels, "status": "failed", "reason": ""}, done.failed))
        outcomes += [
            ({**labels, "status": "dropped", "reason": why}, n) for why, n in sorted(done.dropped.items())
        ]
    yield from family("emotions_frames_total", "counter", "Frames by what became of them.", outcomes)
    ended = [({"source": source.name}, source.ended) for source in sources]
    yield from family("emotions_source_ended", "gauge", "Whether a source has no more frames.", ended)
    in_flight = [({"source": source.name}, source.in_flight) for source in sources]
    yield from family("emotions_frames_in_flight", "gauge", "Frames without an outcome yet.", in_flight)


class Histogram:
    """Counts values by the smallest of `bounds` that is not below them."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float, count: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    def lines(self, name: str, text: str) -> Iterator[str]:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} histogram"
        total = 0
        for bound, count in zip([*self._bounds, "+Inf"], self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {round(self._sum, 6)}"
        yield f"{name}_count {total}"


def family(name: str, kind: str, text: str, samples: Samples) -> Iterator[str]:
    """Return the lines of a metric: its help, its type, and a value for each set of labels."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        number = int(value) if float(value).is_integer() else value
        yield f"{name}{{{shown}}} {number}" if shown else f"{name} {number}"


def percentiles(values: Sequence[float]) -> tuple[float, float] | None:
    """Return p50 and p95, to a tenth; None without values."""
    if not values:
        return None
    cuts = quantiles([*values, *values], n=100, method="inclusive")  # which needs two values at least
    return round(cuts[49], 1), round(cuts[94], 1)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class Health:
    """Set by the supervisor's loop, since the serving thread would answer even if the loop hangs."""

    def __init__(self) -> None:
        self.turn_s = time.monotonic()
        self.ready = False  # all processes of this machine have joined the broker

    @property
    def well(self) -> bool:
        return time.monotonic() - self.turn_s < STUCK_S


@contextmanager
def serving(address: str, metrics: RunMetrics, health: Health) -> Iterator[None]:
    """Serve /metrics, /healthz and /readyz at HOST:PORT; nothing for "". Raises UserError for a wrong one."""
    if not address:
        yield
        return

    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0  # for a client that sends no request

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/metrics":
                    status, text = 200, metrics.text()
                case "/healthz":
                    status, text = (200, "well\n") if health.well else (503, "the supervisor hangs\n")
                case "/readyz":
                    status, text = (200, "ready\n") if health.ready else (503, "processes are awaited\n")
                case _:
                    status, text = 404, "no such page\n"
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log no requests."""

    with _open(address, Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def _open(address: str, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    host, separator, port = address.rpartition(":")
    if not (separator and host and port.isascii() and port.isdecimal() and int(port) < 65_536):
        raise UserError(f"metrics.address: expected HOST:PORT, such as 127.0.0.1:9464, found {address!r}")
    try:
        return ThreadingHTTPServer((host, int(port)), handler)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"metrics.address: {address}: {why}; choose another port") from error
