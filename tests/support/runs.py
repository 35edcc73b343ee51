"""Starts `run.py` as people do, and looks at what they see: its lines, its files, its exit status."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import pytest

from pipeline.common.files import PROJECT

LIMIT_S = 180.0
"""How long anything may take: far longer than it does, on a slow machine too."""

CLIP_FRAMES = 60
CLIP_SIZE = (480, 270)
"""Of the fixture `clip`, in tests/e2e/conftest.py."""

EMOTIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
RECORD_KEYS = ["source", "frame", "time_s", "status", "latency_ms", "faces"]
FACE_KEYS = ["track", "box", "emotion", "confidence", "probabilities", "smoothed"]

_OUR_LINE = re.compile(r"\d\d:\d\d:\d\d [\w-]+: \S|(run\.py: )?error: \S")
"""What may stand on stderr: anything else is the noise of a library, or a traceback."""


class Ended(NamedTuple):
    """A run that is over."""

    status: int
    stdout: str
    stderr: list[str]

    @property
    def errors(self) -> list[str]:
        return [line for line in self.stderr if "error: " in line]


class Run:
    """A run of the pipeline. `place` is its TMPDIR: short, since the paths of sockets are.

    `inside` are the words before its command, which take it elsewhere: into a namespace.
    """

    def __init__(
        self,
        place: Path,
        arguments: Sequence[object],
        environment: dict[str, str],
        inside: Sequence[str] = (),
        project: Path = PROJECT,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.place = place
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._stdout: list[str] = []
        self._ended: Ended | None = None
        self.process = subprocess.Popen(
            [*inside, sys.executable, "run.py", *map(str, arguments)],
            cwd=project,
            env=environment | {"TMPDIR": str(place)},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=pair)
            for pair in ((self.process.stdout, self._stdout), (self.process.stderr, self._lines))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            with self._changed:
                lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line on stderr in which `pattern` is found."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found[:] = [match for line in self._lines if (match := re.search(pattern, line))]
            return bool(found) or self.process.poll() is not None

        with self._changed:
            self._changed.wait_for(look, LIMIT_S)
        assert found, f"no line {pattern!r} came:\n" + self._said()
        return found[0]

    def count(self, text: str) -> int:
        """Return how many lines on stderr have `text` in them so far."""
        return sum(text in line for line in list(self._lines))

    def until(self, what: Callable[[], bool]) -> None:
        """Wait until `what` is true; the run must not end before."""
        deadline_s = time.monotonic() + LIMIT_S
        while not what():
            assert self.process.poll() is None, f"ended with {self.process.poll()}:\n" + self._said()
            assert time.monotonic() < deadline_s, "waited too long:\n" + self._said()
            with self._changed:
                self._changed.wait(0.02)

    def until_records(self, path: Path, count: int) -> None:
        self.until(lambda: path.exists() and path.read_bytes().count(b"\n") >= count)

    def pids(self, name: str) -> list[int]:
        """Return the pids of the child `name` that are there: none while it is started again."""
        words = ["pipeline.supervisor.child_main", name]
        return [pid for pid, command in processes_of(self.place).items() if command[-2:] == words]

    def pid(self, name: str) -> int:
        """Wait for the child `name` and return its pid."""
        self.until(lambda: len(self.pids(name)) == 1)
        return self.pids(name)[0]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> Ended:
        """Wait for the end. Nothing may be left behind, and nothing strange have been said.

        Asked again, it says the same again.
        """
        if self._ended is not None:
            return self._ended
        try:
            status = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError("the run does not end:\n" + self._said()) from None
        assert not processes_of(self.place), "processes are left behind"
        self._close()
        strange = [line for line in self._lines if not _OUR_LINE.match(line)]
        assert not strange, "not our lines:\n" + "\n".join(strange)
        left = [path.name for path in self.place.glob("emotions-*")]
        assert not left, f"left behind: {left}"
        self._ended = Ended(status, "\n".join(self._stdout), list(self._lines))
        return self._ended

    def kill(self) -> None:
        """Leave nothing of it, whatever the test found."""
        for pid in [*processes_of(self.place), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(LIMIT_S)
        self._close()

    def _close(self) -> None:
        for reader in self._readers:
            reader.join(LIMIT_S)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _said(self) -> str:
        return "\n".join([*self._lines, *self._stdout])


def processes_of(place: Path) -> dict[int, list[str]]:
    """Return the command lines by pid of the processes whose TMPDIR is `place`, run.py itself left out."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):  # Linux only: elsewhere there are none to see
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().decode().split("\0")[:-1]
        except OSError:
            continue
        if b"TMPDIR=" + bytes(place) in environment and command and "run.py" not in command:
            found[int(folder.name)] = command
    return found


def read_jsonl(path: Path, *, extras: bool = False) -> list[dict[str, Any]]:
    """Return the records of a results file; every one must have exactly the keys of the format.

    extras: whether faces have what further stages say of them.
    """
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for record in records:
        check_record(record, extras=extras)
    return records


def check_record(record: dict[str, Any], *, extras: bool = False) -> None:
    keys = [key for key in record if key not in ("reason", "file", "size")]
    assert keys == RECORD_KEYS
    assert record["status"] != "ok" or len(record["size"]) == 2
    assert ("reason" in record) == (record["status"] != "ok")
    assert record["status"] in ("ok", "dropped", "failed")
    assert record["status"] == "ok" or record["faces"] == []
    for face in record["faces"]:
        assert list(face) == FACE_KEYS + ["extras"] * extras
        assert len(face["box"]) == 4
        assert list(face["probabilities"]) == EMOTIONS
        assert abs(sum(face["probabilities"].values()) - 1) < 0.01
        assert face["confidence"] == max(face["probabilities"].values())
        assert face["probabilities"][face["emotion"]] == face["confidence"]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def balance(captured: int, ok: int, dropped: int = 0, failed: int = 0) -> str:
    return f"captured {captured} = ok {ok} + dropped {dropped} + failed {failed}"


def video_facts(path: Path) -> tuple[int, int, int]:
    """Decode a video: frames, width and height."""
    with av.open(str(path)) as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert len(set(sizes)) == 1, f"{path}: {len(sizes)} frames of sizes {set(sizes)}"
    return len(sizes), *sizes[0]


Start = Callable[..., Run]
"""The fixture `start`, in tests/e2e/conftest.py."""


@contextlib.contextmanager
def starting(environment: dict[str, str]) -> Iterator[Start]:
    """Give a function that starts runs: `start("--source", …)`; `DISPLAY=":7"` gives one a screen.

    `inside`: the words before the command that run it elsewhere, as on another host. `project`: a copy of it.
    Nothing of them is left at the end.
    """
    runs: list[Run] = []
    places: list[Path] = []

    def start(
        *arguments: object,
        inside: Sequence[str] = (),
        project: Path = PROJECT,
        stdin: int = subprocess.DEVNULL,
        **variables: str,
    ) -> Run:
        places.append(Path(tempfile.mkdtemp(prefix="w-", dir="/tmp" if os.name == "posix" else None)))
        runs.append(Run(places[-1], arguments, environment | variables, inside, project, stdin))
        return runs[-1]

    try:
        yield start
    finally:
        for run in runs:
            run.kill()
        for place in places:
            shutil.rmtree(place, ignore_errors=True)


NEARLY = 1e-3
"""Another batch size may change the last digits of a probability."""


def same_but_for_time(records: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Compare results: all equal but the latency, probabilities nearly."""
    assert [record for record in records if record["status"] != "ok"] == []
    assert [record["frame"] for record in records] == [record["frame"] for record in expected]
    for found, right in zip(records, expected, strict=True):
        assert {k: found[k] for k in ("source", "time_s", "status")} == {
            k: right[k] for k in ("source", "time_s", "status")
        }
        assert [face["track"] for face in found["faces"]] == [face["track"] for face in right["faces"]]
        for face, twin in zip(found["faces"], right["faces"], strict=True):
            assert face["box"] == twin["box"]
            assert face["probabilities"] == pytest.approx(twin["probabilities"], abs=NEARLY)
