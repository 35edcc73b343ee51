"""`python -m tools.faults`: kills and stops processes of real runs, with file and live sources.

Each case kills or stops one or two processes at a random moment, and compares the outputs with those of
an undisturbed run. Prints the table as Markdown, and ends with 1 if a guarantee was broken. It takes a
quarter of an hour.
"""

import argparse
import itertools
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple

import av

from bench.job import describe
from tests.support.mjpeg import MjpegCamera
from tests.support.runs import NEARLY, Ended, Run, Start, read_jsonl, starting
from tools.measuring import table

Blow = Literal["kill", "stop"]
SourceKind = Literal["file", "live"]

TARGETS: Final = ("capture-1", "broker", "detect-1", "classify-1", "display")
PAIRS: Final = (*itertools.combinations(TARGETS, 2), ("detect-1", "detect-2"))


class Case(NamedTuple):
    """SIGKILL or SIGSTOP to one process, or to two at the same moment."""

    kind: SourceKind
    blow: Blow
    targets: tuple[str, ...]

    @property
    def fault(self) -> str:
        return f"{'kill -9' if self.blow == 'kill' else 'SIGSTOP'} {' + '.join(self.targets)}"


def all_cases() -> Iterator[Case]:
    kinds: tuple[SourceKind, ...] = ("file", "live")
    blows: tuple[Blow, ...] = ("kill", "stop")
    for group in ([(target,) for target in TARGETS], PAIRS):
        for kind, blow, targets in itertools.product(kinds, blows, group):
            yield Case(kind, blow, targets)


class Tail:
    """Reads what has been added to a file, whole lines at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0  # behind the last whole line: a display that starts again cuts off no other

    def lines(self) -> list[bytes]:
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole, _, rest = file.read().rpartition(b"\n")
            self._at = file.tell() - len(rest)
        return whole.split(b"\n") if whole else []


LOOK_S: Final = 0.01


class Arrivals:
    """Use as a context manager: follows the file from its start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tail = Tail(path)
        self._ok_s: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def back_since(self, moment_s: float) -> bool:
        """Whether results have come for frames of after `moment_s`, on the clock of time.monotonic."""
        return bool(self._ok_s) and self._ok_s[-1] > moment_s

    def longest_gap_s(self, since_s: float) -> float:
        """The longest time without a result, from the last one before `since_s` on."""
        before = [moment for moment in self._ok_s if moment <= since_s][-1:]
        moments = [*before, *(moment for moment in self._ok_s if moment > since_s)]
        return max((b - a for a, b in itertools.pairwise(moments)), default=float("inf"))

    def __enter__(self) -> "Arrivals":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(LOOK_S):
            for line in self._tail.lines() if self._path.exists() else ():
                if json.loads(line)["status"] == "ok":
                    self._ok_s.append(time.monotonic())


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
    """Compare the outputs of a run with those it should have."""
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


FILE_FRAMES: Final = 150
FILE_FPS: Final = 25  # slow enough for a fault in the middle
BEGIN_RECORDS: Final = 20
LATEST_S: Final = 2.5  # of the random moment, after that
AFTERMATH_S: Final = 3.0  # live: how long it is watched once results are back

SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
FILE_OPTIONS: Final = ("--source", "demo:2", "--set", f"capture.max_frames={FILE_FRAMES}")


def undisturbed(start: Start, options: Sequence[object], folder: Path) -> list[dict[str, Any]]:
    """The records of the file to which nothing happens."""
    results = folder / "undisturbed.jsonl"
    run = start(*options, *FILE_OPTIONS, "--results", results)
    assert run.end().status == 0
    return list(read_jsonl(results))


def run_case(
    case: Case,
    start: Start,
    options: Sequence[object],
    folder: Path,
    moment: random.Random,
    expected: list[dict[str, Any]],
) -> Outcome:
    """Run the pipeline in `folder`, strike at a random moment, and compare the outputs."""
    outputs = ["--results", folder / "results.jsonl", "--record", folder / "video.mkv"]
    with MjpegCamera() as camera, Arrivals(folder / "results.jsonl") as arrivals:
        if case.kind == "file":
            source = [*FILE_OPTIONS, "--set", f"capture.pace_fps={FILE_FPS}"]
        else:
            source = ["--source", camera.url]
        run = start(*options, *source, *outputs)
        run.until_records(folder / "results.jsonl", BEGIN_RECORDS)
        struck_s = strike(run, case, moment.uniform(0, LATEST_S))
        if case.kind == "live":
            run.until(lambda: arrivals.back_since(struck_s + AFTERMATH_S))
            run.signal(signal.SIGINT)
        done = run.end()
    return judge(case, done, folder, arrivals.longest_gap_s(struck_s), expected)


def strike(run: Run, case: Case, after_s: float) -> float:
    """Strike all targets at once, after a while; return the moment."""
    time.sleep(after_s)  # the random moment, which no event tells
    pids = [run.pid(name) for name in case.targets]
    moment_s = time.monotonic()
    for pid in pids:
        os.kill(pid, SIGNALS[case.blow])
    return moment_s


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


def write_json(path: Path, facts: dict[str, Any], outcomes: Iterable[Outcome]) -> None:
    rows = [outcome._asdict() | {"case": outcome.case._asdict()} for outcome in outcomes]
    path.write_text(json.dumps(facts | {"outcomes": rows}, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> list[Outcome]:
    """The inverse of `write_json`."""
    rows = json.loads(path.read_text(encoding="utf-8"))["outcomes"]
    return [Outcome(**row | {"case": _case(**row["case"])}) for row in rows]


def _case(kind: Any, blow: Any, targets: list[str]) -> Case:
    return Case(kind, blow, tuple(targets))


LIVE_LIMIT_S = 5.0
"""Live results are promised to be back by then, except where a stage's own first step may take longer."""

OPTIONS = ("--display", "none", "--set", "detect.workers=2")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose name holds this text")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default 1)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the outcomes there")
    options = parser.parse_args()
    cases = [case for case in all_cases() if options.only in f"{case.kind} {case.fault}"]
    outcomes = run_all(cases, options.seed, options.json)
    print("\n" + table(HEADER, list(map(row, outcomes))) + "\n")
    late = [o for o in outcomes if o.case.kind == "live" and o.recovery_s > LIVE_LIMIT_S]
    bad = [o for o in outcomes if o.problems or o.lost or o.duplicated]
    over = f"{len(late)} live ones took over {LIVE_LIMIT_S:.0f} s"
    print(f"{len(outcomes)} faults: {len(bad)} broke a promise, {over}")
    return 1 if bad or late else 0


def run_all(cases: list[Case], seed: int, path: Path | None) -> list[Outcome]:
    """Run them one after the other; the file `path` is written anew after each."""
    machine, moment = describe(), random.Random(seed)
    outcomes = []
    print(" | ".join(HEADER))
    with starter() as (start, folder):
        expected = undisturbed(start, OPTIONS, folder)
        for number, case in enumerate(cases):
            place = folder / str(number)
            place.mkdir()
            try:
                outcome = run_case(case, start, OPTIONS, place, moment, expected)
            except AssertionError as error:  # an expected event did not come; go on with the next case
                outcome = Outcome(case, 0, 0, 0, {}, 0, float("inf"), [str(error).splitlines()[0]])
                print(error, file=sys.stderr)
            outcomes.append(outcome)
            if path is not None:
                write_json(path, {"seed": seed, "machine": machine}, outcomes)
            print(" | ".join(row(outcome)), flush=True)
    return outcomes


@contextmanager
def starter() -> Iterator[tuple[Start, Path]]:
    """A function that starts runs, and a folder for their outputs, which is removed at the end."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    with tempfile.TemporaryDirectory(prefix="f-") as folder, starting(environment) as start:
        yield start, Path(folder)


if __name__ == "__main__":
    sys.exit(main())
