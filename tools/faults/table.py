"""The matrix as a table: for the terminal, as Markdown for the docs, and as JSON."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.faults.cases import Case
from tools.faults.outcome import Outcome

HEADER = ("fault", "source", "captured", "lost", "duplicated", "dropped, counted", "failed", "gap, s", "kept")


def row(outcome: Outcome) -> tuple[str, ...]:
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(outcome.dropped.items()))
    return (
        outcome.case.fault,
        outcome.case.kind,
        str(outcome.captured),
        str(outcome.lost),
        str(outcome.duplicated),
        dropped or "0",
        str(outcome.failed),
        f"{outcome.recovery_s:.1f}",
        "; ".join(outcome.problems) or "yes",
    )


def markdown(outcomes: Iterable[Outcome]) -> str:
    lines = [HEADER, ["---"] * len(HEADER), *map(row, outcomes)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def write_json(path: Path, facts: dict[str, Any], outcomes: Iterable[Outcome]) -> None:
    rows = [outcome._asdict() | {"case": outcome.case._asdict()} for outcome in outcomes]
    path.write_text(json.dumps(facts | {"outcomes": rows}, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> list[Outcome]:
    """The inverse of `write_json`."""
    rows = json.loads(path.read_text(encoding="utf-8"))["outcomes"]
    return [Outcome(**row | {"case": _case(**row["case"])}) for row in rows]


def _case(kind: Any, blow: Any, targets: list[str]) -> Case:
    return Case(kind, blow, tuple(targets))
