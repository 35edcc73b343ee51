"""The figures as tables for a person, on standard output."""

from typing import Any, Final

from rich.console import Console
from rich.table import Table

WIDTH: Final = 120  # where there is no terminal to fit


def show(document: dict[str, Any], main: dict[str, Any]) -> None:
    """Print the figures; `main` are the rates of the clip that was asked for."""
    console = open_console()
    machine, settings = document["machine"], document["settings"]
    model = settings["model"]
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"ONNX Runtime {machine['packages']['onnxruntime']}, OpenCV {machine['packages']['opencv-python']}"
    )
    console.print(
        f"model {model['name']}, labels {model['labels']}, "
        f"{model['multiply_adds'] / 1e6:.1f} million multiply-adds a face; "
        f"detector {settings['detector']}"
    )
    console.print()
    console.print(_rates([main, *document["others"]]))
    console.print(
        "[dim]medians of the runs; in brackets the slowest and the fastest; "
        "t: threads of the plain loop, the faster count[/dim]"
    )
    console.print()
    console.print(_costs(document))
    console.print()
    for line in summary(document):
        console.print(line, soft_wrap=True)


def open_console() -> Console:
    """Return the console that tables are printed on."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def summary(document: dict[str, Any]) -> list[str]:
    """Return latency, batches, balance and efficiency in words."""
    pipeline = document["pipeline"]
    latency, batch = pipeline["latency_ms"], pipeline["batch"]
    return [
        f"latency at {pipeline['latency_at_fps']:.1f} frames/s ({pipeline['latency_at']}): "
        f"p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms, p99 {latency['p99']:.0f} ms",
        f"faces in a batch: {batch['mean']:.1f} on average; "
        f"frames dropped {pipeline['dropped']}, failed {pipeline['failed']}",
        f"efficiency {100 * document['efficiency']:.0f} %: the share of {document['machine']['cores']} cores "
        "that goes into decoding, detecting, classifying and drawing",
    ]


def _rates(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in ("frames a second", "faces", "tutorial loop", "plain loop", "pipeline"):
        table.add_column(column, justify="left" if column.startswith("frames") else "right", no_wrap=True)
    table.add_column("× tutorial", justify="right")
    table.add_column("× plain", justify="right")
    for row in rows:
        table.add_row(
            row["scene"],
            f"{row['faces_per_frame']:.1f}",
            rate(row["tutorial_loop"]) if row["tutorial_loop"] else "–",
            f"{rate(row['plain_loop'])} {row['plain_loop']['threads']}t",
            rate(row["pipeline"]),
            f"{row['ratio_to_tutorial']:.1f}" if row["ratio_to_tutorial"] else "–",
            f"{row['ratio_to_plain']:.2f}",
        )
    return table


def rate(found: dict[str, Any]) -> str:
    """Return a rate and its spread for a cell of a table."""
    least, greatest = found["fps_spread"]
    return f"{found['fps']:.1f} [dim]({least:.1f}–{greatest:.1f})[/dim]"


def _costs(document: dict[str, Any]) -> Table:
    """CPU time a frame: in the pipeline by process, and of the work with nothing round it."""
    in_pipeline, bare = document["pipeline"]["cpu_ms_per_frame"], document["bare_cpu_ms_per_frame"]
    work = {"capture": "decode", "detect": "detect", "classify": "classify", "display": "draw"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("CPU ms a frame", "in the pipeline", "the work alone"):
        table.add_column(column, justify="left" if column.startswith("CPU") else "right")
    for role in ("capture", "detect", "classify", "display", "broker", "parent"):
        alone = f"{bare[work[role]]:.2f}" if role in work else ""
        table.add_row(role, f"{in_pipeline[role]:.2f}" if role in in_pipeline else "", alone)
    table.add_row("together", f"{sum(in_pipeline.values()):.2f}", f"{sum(bare.values()):.2f}")
    return table
