"""The log file: moved away, removed, on a full disk."""

import errno
import os
from pathlib import Path

import pytest

from pipeline.supervisor.log import LogFile


def test_lines_go_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    path.write_text("before\n")
    log = LogFile(str(path))
    assert [log.write("one"), log.write("zwei é")] == [None, None]
    assert path.read_text(encoding="utf-8") == "before\none\nzwei é\n"


def test_a_file_that_was_moved_or_removed_is_gone_on_with_in_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    log = LogFile(str(path))
    log.write("one")
    path.rename(tmp_path / "run.log.old")  # as logrotate does
    log.write("two")
    path.unlink()
    log.write("three")
    assert (tmp_path / "run.log.old").read_text() == "one\n"
    assert path.read_text() == "three\n"
    assert log.lost == 0


def test_a_failure_is_reported_once_and_so_is_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = LogFile(str(folder / "run.log"))
    log.write("one")
    (folder / "run.log").unlink()
    folder.rmdir()
    said = [log.write("two"), log.write("three")]
    assert said == [
        (
            "error",
            f"log.file {folder / 'run.log'}: cannot be written: No such file or directory; the run goes on",
        ),
        None,
    ]
    folder.mkdir()
    again = f"log.file {folder / 'run.log'} is written again, 2 lines missing"
    assert log.write("four") == ("warning", again)
    assert log.write("five") is None
    assert (folder / "run.log").read_text() == "four\nfive\n"


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is absent")
    (tmp_path / "run.log").symlink_to("/dev/full")
    log = LogFile(str(tmp_path / "run.log"))
    assert os.strerror(errno.ENOSPC) in str(log.write("one"))


def test_what_can_not_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        LogFile(str(tmp_path / "absent" / "run.log"))


def test_a_long_file_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.supervisor.log.LIMIT", 15)
    log = LogFile(str(tmp_path / "run.log"))
    for number in range(11):
        log.write(f"line {number}")
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {
        "run.log": "line 10\n",
        "run.log.1": "line 8\nline 9\n",
        "run.log.2": "line 6\nline 7\n",
        "run.log.3": "line 4\nline 5\n",
    }
