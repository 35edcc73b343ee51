"""What a frame costs on its way to another machine."""

from pipeline.config.sources import SourceSpec
from tools.measure_jpeg import HEADER, measure, row


def test_bytes_and_times_of_a_clip() -> None:
    size, costs = measure(SourceSpec("demo:2", "demo", "demo-2"), 90, frames=3)
    assert (size, len(costs)) == ("960×540", 3)
    for cost in costs:
        assert cost.raw_bytes == 960 * 540 * 3 > 5 * cost.jpeg_bytes
        assert cost.encode_ms > 0 < cost.decode_ms
    line = row("demo-2", size, costs)
    assert line.startswith("| demo-2 | 960×540 | 1555 | ")
    assert line.count("|") == HEADER.splitlines()[0].count("|")
