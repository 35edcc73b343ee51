"""The programs of this project, as text for tests to look through."""

from pathlib import Path

from pipeline.common.files import PROJECT


def sources() -> list[Path]:
    places = [PROJECT / name for name in ("pipeline", "stages", "trainer", "bench", "tests")]
    return [PROJECT / "run.py", *sorted(path for place in places for path in place.rglob("*.py"))]
