"""The end of a capture process whose reader hangs."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

HANGING = """
import sys, threading
from pipeline.child import StopFlag
from stages.capture import file_feed, live_reader, loop
from tests.builders import make_assignment
from tests.stages.capture.conversation import options
from tests.stages.capture.media import ListReader, pictures

kind, address = sys.argv[1:]
file_feed.CLOSE_S = live_reader.CLOSE_S = 0.1

class Hangs(ListReader):
    def read(self):
        reading.set()
        threading.Event().wait()

def open_reader(*_):
    return Hangs(pictures(1), kind)

class Reading(StopFlag):
    def __bool__(self):
        if kind == "file":
            feeds[0]._reading = feeds[0]._thread.submit(feeds[0].reader.read)
        return reading.wait(20)

def open_feed(*given):
    feeds.append(opens(*given))
    return feeds[0]

feeds, reading, opens = [], threading.Event(), loop.open_feed
loop.open_reader, loop.open_feed = open_reader, open_feed
sys.exit(loop.run(make_assignment("capture", "capture-1", address, options(kind)), Reading()))
"""


@pytest.mark.parametrize("kind", ["live", "file"])
def test_a_process_ends_though_its_reader_hangs(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-c", HANGING, kind, f"ipc://{tmp_path}/nobody"]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=40)
    assert (ended.returncode, ended.stderr) == (0, "")
