"""What a soak has seen, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tools.soak.samples import Latency, Sample


def plot(samples: Sequence[Sample], latencies: Sequence[Latency], path: Path) -> None:
    """Memory and open files of each process and the latency, over time, as a PNG."""
    figure = Figure(figsize=(10, 9), layout="constrained")
    FigureCanvasAgg(figure)
    memory, files, late = figure.subplots(3, 1, sharex=True)
    for process in sorted({one.process for one in samples}):
        mine = [one for one in samples if one.process == process]
        minutes = [one.time_s / 60 for one in mine]
        memory.plot(minutes, [one.rss_bytes / 1e6 for one in mine], label=process)
        files.plot(minutes, [one.files for one in mine])
    late.plot([one.time_s / 60 for one in latencies], [one.latency_ms for one in latencies], ",")
    memory.set_ylabel("RSS, MB")
    files.set_ylabel("open files")
    late.set_ylabel("latency of live frames, ms")
    late.set_xlabel("minutes")
    late.set_yscale("log")
    memory.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=100)
