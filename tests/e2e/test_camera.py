"""A camera that the test plays: it is unplugged, it comes back, its driver hangs."""

import re
import signal
from pathlib import Path

from tests.support.runs import Start, read_jsonl

PATIENT = ["--set", "broker.peer_timeout_s=5"]
"""Less than the 6 s for which a driver hangs, more than a busy machine keeps a process waiting."""


def test_camera_is_unplugged_and_its_driver_hangs(start: Start, quick: list[str], tmp_path: Path) -> None:
    """Unplugged, it is opened again; while its driver hangs, its process is replaced, and the run can end."""
    results = tmp_path / "r.jsonl"

    def does(what: str) -> None:
        new = tmp_path / "new"
        new.write_text(what)
        new.rename(tmp_path / "does")

    def hangs() -> None:
        does("hangs")
        run.until((tmp_path / "hangs").exists)
        (tmp_path / "hangs").unlink()

    def until_more_records() -> None:
        run.until_records(results, results.read_bytes().count(b"\n") + 20)

    does("works")
    run = start(
        *[*quick, *PATIENT, "--source", "0", "--results", results],
        FAKE_CAMERA=str(tmp_path),
        PYTHONPATH=str(Path(__file__).parent / "camera"),
    )
    run.until_records(results, 20)

    does("gone")
    run.line(r"camera-0: the pictures have stopped; opened again in 0\.5 s \(attempt 1 of 5\)")
    run.line(r"source '0': this camera does not open.*; opened again in 1\.0 s \(attempt 2 of 5\)")
    does("works")
    run.line("camera-0: pictures come again")
    until_more_records()

    hangs()
    does("works")
    run.line("capture-1: camera-0: its driver hangs: no answer for 6 s; this process ends")
    run.line(r"capture-1 died \(status 1\); it is started again now")
    until_more_records()

    hangs()
    run.signal(signal.SIGINT)
    done = run.end()
    assert done.status == 130
    assert [line for line in done.stderr if "died" in line] == [
        line for line in done.stderr if "capture-1 died (status 1)" in line
    ]
    assert not [line for line in done.stderr if any(word in line for word in ("silent", "killed", "cleanly"))]
    records = read_jsonl(results)
    assert [record["frame"] for record in records] == list(range(len(records)))
    told = re.search(r"captured (\d+) = ok (\d+) \+ dropped (\d+).* \+ failed 0\n", done.stdout)
    assert told, done.stdout
    assert int(told[1]) == int(told[2]) + int(told[3]) == len(records)
