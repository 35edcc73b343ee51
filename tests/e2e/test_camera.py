"""A camera that the tests play: it is unplugged, it comes back, its driver hangs."""

import re
import signal
from pathlib import Path

import pytest

from tests.support.runs import Run, Start, read_jsonl

PATIENT = ["--set", "broker.peer_timeout_s=5"]
"""Less than the 6 s for which a driver hangs, more than a busy machine keeps a process waiting."""


class Camera:
    """What the camera does; a run of it, and the balance of that run."""

    def __init__(self, folder: Path, start: Start, quick: list[str]) -> None:
        self.folder = folder
        self.results = folder / "r.jsonl"
        self.does("works")
        self.run: Run = start(
            *[*quick, *PATIENT, "--source", "0", "--results", self.results],
            FAKE_CAMERA=str(folder),
            PYTHONPATH=str(Path(__file__).parent / "camera"),
        )
        self.run.until_records(self.results, 20)

    def does(self, what: str) -> None:
        new = self.folder / "new"
        new.write_text(what)
        new.rename(self.folder / "does")

    def until_more_records(self) -> None:
        self.run.until_records(self.results, self.results.read_bytes().count(b"\n") + 20)

    def end(self) -> list[str]:
        """Interrupt the run: every frame must have its outcome. Returns the lines of stderr."""
        self.run.signal(signal.SIGINT)
        done = self.run.end()
        assert done.status == 130
        records = read_jsonl(self.results)
        assert [record["frame"] for record in records] == list(range(len(records)))
        told = re.search(r"captured (\d+) = ok (\d+) \+ dropped (\d+).* \+ failed 0\n", done.stdout)
        assert told, done.stdout
        assert int(told[1]) == int(told[2]) + int(told[3]) == len(records)
        return done.stderr


@pytest.fixture
def camera(start: Start, quick: list[str], tmp_path: Path) -> Camera:
    return Camera(tmp_path, start, quick)


@pytest.mark.long
def test_it_is_unplugged_and_comes_back(camera: Camera) -> None:
    camera.does("gone")
    camera.run.line(r"camera-0: no picture comes any more; opened again in 0\.5 s \(attempt 1 of 5\)")
    camera.run.line(r"source '0': this camera does not open.*; opened again in 1\.0 s \(attempt 2 of 5\)")
    camera.does("works")
    camera.run.line("camera-0: pictures come again")
    camera.until_more_records()
    said = camera.end()
    assert not [line for line in said if "died" in line]


@pytest.mark.long
def test_it_is_gone_for_good(camera: Camera) -> None:
    camera.does("gone")
    done = camera.run.end()
    assert done.status == 1
    assert any("given up after 5 attempts to open it again" in line for line in done.stderr)


@pytest.mark.long
def test_its_driver_hangs(camera: Camera) -> None:
    """Its process beats on meanwhile, then gives itself up; the next one numbers on."""
    camera.does("hangs")
    camera.run.until((camera.folder / "hangs").exists)
    camera.does("works")
    camera.run.line("capture-1: camera-0: its driver hangs: no answer for 6 s; this process gives itself up")
    camera.run.line(r"capture-1 died \(status 1\); it is started again now")
    camera.until_more_records()
    said = camera.end()
    assert not [line for line in said if "silent" in line]


@pytest.mark.long
def test_a_run_ends_while_its_driver_hangs(camera: Camera) -> None:
    camera.does("hangs")
    camera.run.until((camera.folder / "hangs").exists)
    said = camera.end()
    assert not [line for line in said if "killed" in line or "cleanly" in line]
