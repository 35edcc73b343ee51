"""The end of a capture process whose reader hangs."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.common.files import PROJECT

HANGING = """
import sys, threading
from pipeline.wire.assignment import StopFlag
from stages.capture import feed, live_feed, main
from tests.support.broker_world import make_assignment
from tests.support.feed_conversation import options
from tests.support.media import ListReader, pictures

kind, address, close_s, stuck_s = sys.argv[1:]
feed.CLOSE_S = live_feed.CLOSE_S = float(close_s)
live_feed.STUCK_S = float(stuck_s)

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
        return stuck_s == "inf" and reading.wait(20)

def open_feed(*given):
    feeds.append(opens(*given))
    return feeds[0]

feeds, reading, opens = [], threading.Event(), main.open_feed
main.open_reader, main.open_feed = open_reader, open_feed
sys.exit(main.run(make_assignment("capture", "capture-1", address, options(kind)), Reading()))
"""


def run_hanging(
    folder: Path, kind: str, *, close_s: float, stuck_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a capture process whose reader hangs: stopped then, or giving itself up if `stuck_s` is finite."""
    command = [sys.executable, "-c", HANGING, kind, f"ipc://{folder}/nobody", str(close_s), str(stuck_s)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=40)


@pytest.mark.parametrize("kind", ["live", "file"])
def test_a_process_ends_though_its_reader_hangs(tmp_path: Path, kind: str) -> None:
    ended = run_hanging(tmp_path, kind, close_s=0.1, stuck_s=math.inf)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_process_that_gives_itself_up_waits_for_its_reader_no_more(tmp_path: Path) -> None:
    """The broker would take it for hung meanwhile, and its parent kill it."""
    ended = run_hanging(tmp_path, "live", close_s=1000, stuck_s=0.3)
    assert ended.returncode == 1
    assert re.search("clip: its driver hangs: .*; this process ends and is started again\n$", ended.stderr)
