"""What grows in a run is noticed."""

from pathlib import Path

import numpy as np
import pytest

from tools.faults import Tail
from tools.soak import FILES_BOUND, RSS_BOUND, Latency, Sample, findings, slope

MB = 1_000_000


def series(grows_by: float, noise: float) -> tuple[list[float], list[float]]:
    """Ten minutes, a sample a second, growing by so much a minute."""
    times_s = np.arange(600.0)
    values = 100 * MB + times_s / 60 * grows_by + np.random.default_rng(7).normal(0, noise, len(times_s))
    return times_s.tolist(), values.tolist()


def test_a_slope_with_its_error() -> None:
    found = slope(*series(MB, noise=MB))
    assert found.per_minute == pytest.approx(MB, rel=0.2)
    assert 0 < found.error < 0.1 * MB
    assert found.exceeds(RSS_BOUND)
    assert not slope(*series(0, noise=MB)).exceeds(RSS_BOUND)


def test_what_does_not_change_at_all_is_flat() -> None:
    found = slope([0.0, 60.0, 120.0, 180.0], [17, 17, 17, 17])
    assert found == (17, 0, 0)
    assert not found.exceeds(FILES_BOUND)


def test_what_grows_is_found_behind_the_warm_up() -> None:
    def made(grows_from: int) -> list[Sample]:
        return [
            Sample(float(s), "display", 7, 50 * MB + MB * max(0, min(s, 120) - grows_from), 10 + s // 60, 3)
            for s in range(300)
        ]

    late = [Latency(float(s), 50.0) for s in range(300)]
    found = {one.what: one.grows for one in findings(made(0), late, warm_up_s=150)}
    assert found == {"rss_bytes": False, "files": True, "threads": False, "latency_ms": False}
    found = {one.what: one.grows for one in findings(made(0), late, warm_up_s=0)}
    assert found["rss_bytes"]


def test_a_process_that_was_replaced_spoils_it() -> None:
    samples = [Sample(float(s), "display", pid, 50 * MB, 10, 3) for s, pid in enumerate((7, 7, 8, 8))]
    with pytest.raises(AssertionError, match="display was started again"):
        findings(samples, [Latency(float(s), 50.0) for s in range(4)], 0)


def test_a_file_is_read_whole_lines_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"one\ntw")
    tail = Tail(path)
    assert tail.lines() == [b"one"]
    assert tail.lines() == []
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    assert tail.lines() == [b"two", b"three"]
