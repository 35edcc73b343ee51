"""What is not kept under load is noticed."""

from typing import Any

import pytest

from tests.support.runs import balance
from tools.overload import CAMERAS, FPS, evenness, problems, shares


def records(source: str, *outcomes: Any) -> list[dict[str, Any]]:
    """A record a frame: a latency in ms, or the reason why it was dropped."""
    return [
        {"source": source, "frame": number, "time_s": number / FPS}
        | ({"status": "dropped", "reason": it} if isinstance(it, str) else {"status": "ok", "latency_ms": it})
        for number, it in enumerate(outcomes)
    ]


def test_what_is_not_kept_is_noticed() -> None:
    good = [50.0, "superseded", 70.0, "stale"]
    sources = [f"camera-{number}" for number in range(CAMERAS)]
    said = "\n".join(f"{source}: {balance(4, 2, 2)}" for source in sources)
    found = shares([record for source in sources for record in records(source, *good)])
    assert problems(found, said) == []
    assert evenness(found) == 1
    assert (found[0].dropped, found[0].captured_fps) == ({"stale": 1, "superseded": 1}, FPS)

    for bad, complaint in (
        ([50.0, "superseded", 1600.0, "stale"], "a frame took 1600 ms"),
        ([50.0, "superseded", "stale", "stale"], "shares are uneven"),
        ([50.0, 50.0, 50.0, 50.0], "nothing was dropped"),
        ([50.0, "superseded", 70.0], "the balance is"),
    ):
        found = shares([r for s in sources for r in records(s, *(bad if s == "camera-1" else good))])
        assert any(complaint in line for line in problems(found, said))
    with pytest.raises(AssertionError, match="not in order"):
        shares(records("camera", 1.0, 2.0)[1:])
