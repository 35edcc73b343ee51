"""A stream of a real RTSP server that drops, stalls, comes back, or stays away."""

import contextlib
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rtsp import SECRETS, RtspServer
from tests.support.runs import CLIP_FRAMES, Ended, Run, Start, balance, read_jsonl


@pytest.fixture
def server() -> Iterator[RtspServer]:
    server = RtspServer()
    yield server
    server.kill()


class Watcher:
    """A run that watches the stream. Its address stands in a file: command lines can be read by everybody."""

    def __init__(
        self, start: Start, quick: list[str], folder: Path, server: RtspServer, *others: Path
    ) -> None:
        self.server = server
        self.results = folder / "r.jsonl"
        config = folder / "pipeline.toml"
        config.write_text(f"[capture]\nsources = {json.dumps([server.url, *map(str, others)])}\n")
        self.run: Run = start("--config", config, *quick, "--results", self.results)
        self.until_more_records()

    def records(self) -> list[dict[str, object]]:
        return [r for r in read_jsonl(self.results) if r["source"] == self.server.name]

    def until_more_records(self, more: int = 20) -> None:
        written = 0
        if self.results.exists():
            written = self.results.read_bytes().count(b"\n")
        self.run.until_records(self.results, written + more)

    def end(self, *, interrupt: bool = True) -> Ended:
        """The end of the run: each frame has its outcome, and nowhere stands a password."""
        if interrupt:
            self.run.signal(signal.SIGINT)
        done = self.run.end()
        records = self.records()
        assert [record["frame"] for record in records] == list(range(len(records)))
        told = re.search(r"/live: captured (\d+) = ok (\d+) \+ dropped (\d+).* \+ failed 0", done.stdout)
        assert told, done.stdout
        assert int(told[1]) == int(told[2]) + int(told[3]) == len(records)
        said = "\n".join([*done.stderr, done.stdout, self.results.read_text()])
        assert not [secret for secret in SECRETS if secret in said]
        return done


def test_server_is_killed_and_stalls(
    start: Start, quick: list[str], tmp_path: Path, server: RtspServer
) -> None:
    """The stream is opened again each time; nobody reads its password from the command lines."""
    watcher = Watcher(start, quick, tmp_path, server)
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            commands.append(path.read_bytes())
    assert any(b"pipeline.supervisor.child_main" in command for command in commands)
    assert not [command for command in commands for secret in SECRETS if secret.encode() in command]

    server.kill()
    watcher.run.line(r"/live: .*; opened again in 0\.5 s \(attempt 1 of 5\)")
    watcher.run.line(r"/live'?: .*; opened again in 1\.0 s \(attempt 2 of 5\)")
    server.start()
    watcher.run.line("/live: pictures come again")
    watcher.until_more_records()

    server.process.send_signal(signal.SIGSTOP)
    watcher.run.line(r"/live: no picture for [4-9]\.\d s; opened again in 0\.5 s \(attempt 1 of 5\)")
    server.process.send_signal(signal.SIGCONT)
    watcher.run.until(lambda: watcher.run.count("/live: pictures come again") == 2)
    watcher.until_more_records()
    done = watcher.end()
    assert done.status == 130
    assert not [line for line in done.stderr if "died" in line or "silent" in line]


def test_server_stays_away(
    start: Start, quick: list[str], tmp_path: Path, server: RtspServer, clip: Path
) -> None:
    """The stream ends with its error; the video beside it goes on to its end."""
    slow = ["--set", "capture.pace_fps=3"]  # it lasts longer than all attempts
    watcher = Watcher(start, [*quick, *slow], tmp_path, server, clip)
    server.kill()
    gone = watcher.run.line(f"{server.name}.* given up after 5 attempts to open it again")
    assert not [secret for secret in SECRETS if secret in gone.string]
    done = watcher.end(interrupt=False)
    assert done.status == 1
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    assert len([r for r in read_jsonl(watcher.results) if r["source"] == "clip.mp4"]) == CLIP_FRAMES
