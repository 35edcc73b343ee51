"""What became of a run: by its results file, its summary and its recordings."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import av

from tests.support.runs import Ended, read_jsonl
from tools.faults.cases import Case

NEARLY = 1e-3
"""Another batch size may change the last digits of a probability."""


class Outcome(NamedTuple):
    """One row of the table."""

    case: Case
    captured: int
    lost: int
    duplicated: int
    dropped: dict[str, int]  # by reason
    failed: int
    recovery_s: float
    problems: list[str]  # none: all that is promised was kept


def judge(
    case: Case, done: Ended, place: Path, recovery_s: float, undisturbed: list[dict[str, Any]]
) -> Outcome:
    """Compare what a run left with what it should have."""
    records = read_jsonl(place / "results.jsonl")
    frames = Counter(record["frame"] for record in records)
    captured = _captured(done.stdout)
    expected = len(undisturbed) if case.kind == "file" else captured
    lost = sum(frame not in frames for frame in range(expected))
    duplicated = sum(count - 1 for count in frames.values())
    dropped = Counter(record["reason"] for record in records if record["status"] == "dropped")
    failed = sum(record["status"] == "failed" for record in records)
    problems = []
    if done.status != (0 if case.kind == "file" else 130):
        problems.append(f"status {done.status}")
    if captured != len(records):
        problems.append(f"captured {captured}, {len(records)} records")
    if [record["frame"] for record in records] != sorted(frames):
        problems.append("out of order")
    if case.kind == "file":
        problems += _differences(records, undisturbed)
    if failed:
        problems.append("frames failed: " + ", ".join(_reasons(records)))
    problems += _unplayable(place)
    return Outcome(case, captured, lost, duplicated, dict(dropped), failed, recovery_s, problems)


def _captured(stdout: str) -> int:
    """The sum that the run states; 0 if it does not add up."""
    found = re.search(r"captured (\d+) = ok (\d+) \+ dropped (\d+).* \+ failed (\d+)", stdout)
    captured, *outcomes = map(int, found.groups()) if found else (0, 0)
    return captured if captured == sum(outcomes) else 0


def _reasons(records: list[dict[str, Any]]) -> set[str]:
    return {record["reason"] for record in records if record["status"] == "failed"}


def _differences(records: list[dict[str, Any]], undisturbed: list[dict[str, Any]]) -> list[str]:
    """All must be as in an undisturbed run, but the latency, and nearly so the probabilities."""
    differ = [r["frame"] for r, u in zip(records, undisturbed, strict=False) if _bare(r) != _bare(u)]
    differ += [
        r["frame"]
        for r, u in zip(records, undisturbed, strict=False)
        for face, twin in zip(r["faces"], u["faces"], strict=False)
        for p, q in zip(face["probabilities"].values(), twin["probabilities"].values(), strict=True)
        if abs(p - q) > NEARLY
    ]
    return [f"frames differ: {sorted(set(differ))[:5]}"] if differ else []


def _bare(record: dict[str, Any]) -> str:
    faces = [{"track": face["track"], "box": face["box"]} for face in record["faces"]]
    return json.dumps(record | {"latency_ms": None, "faces": faces})


def _unplayable(place: Path) -> list[str]:
    problems = []
    for path in sorted(place.glob("video*.mkv")):
        with av.open(str(path)) as container:
            if not any(True for _ in container.decode(video=0)):
                problems.append(f"{path.name} does not play")
    return problems
