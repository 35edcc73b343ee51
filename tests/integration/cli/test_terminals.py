"""Terminals that can't show every letter, and standard streams that are closed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.common.files import PROJECT
from tests.support.records import face, record, write_records

ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}


def ask(*words: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=PROJECT, timeout=60, **options)  # type: ignore[call-overload]
    assert isinstance(done, subprocess.CompletedProcess)
    return done


def test_what_the_encoding_lacks_is_escaped(tmp_path: Path) -> None:
    ascii_alone = {"env": os.environ | ASCII, "capture_output": True}
    results = write_records(tmp_path / "r.jsonl", [record(0, face(1, "happy"), source="cl\u00ef\u4e2d.mp4")])
    for words, said in (
        (["run.py", "report", results], b"cl\\xef\\u4e2d.mp4"),
        (["run.py", "check", "--source", tmp_path / "\u4e2d"], b"\\u4e2d"),
        (["run.py", "--help"], b"\\u2026"),
        (["-m", "trainer", "--help"], b"trainer"),
    ):
        done = ask(*words, **ascii_alone)
        assert (done.stderr, said in done.stdout) == (b"", True), done
    done = ask("-m", "trainer", "fit", "--data", tmp_path / "\u4e2d", "--out", tmp_path, **ascii_alone)
    assert done.returncode == 2 and b"Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows' shell closes no stream")
def test_a_stream_that_is_closed_is_no_trouble(tmp_path: Path) -> None:
    for closed, status in (("<&- >&- 2>&-", 0), (">&-", 0), ("2>&-", 0)):
        words = ["sh", "-c", f'"$0" run.py check --source demo --display none {closed}', sys.executable]
        assert subprocess.run(words, cwd=PROJECT, timeout=60, capture_output=True).returncode == status
