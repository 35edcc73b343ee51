"""Windows are tried in processes of their own, under a screen of their own (Xvfb)."""

import shutil
import subprocess
import sys

import pytest

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from stages.display.sinks.window import Windows, window_size

PRELUDE = """
import subprocess, sys, time
import numpy as np
from stages.display.spec import DisplaySettings
from stages.display.display import Display
from tests.support.deliveries import outcome

def until_quit(display, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (wish := display.poll()) is not None:
            return wish
    return None

def screen():
    command = ["import", "-window", "root", "-depth", "8", "rgb:-"]
    rgb = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(rgb.stdout, np.uint8).reshape(600, 800, 3)[:, :, ::-1]

def half_red(sequence, **more):  # the left half is red
    one = outcome(sequence, pixels=True, **more)
    one.image[:] = 0
    one.image[:, :40] = (0, 0, 255)
    return one
"""


def under_xvfb(script: str, *tools: str) -> subprocess.CompletedProcess[str]:
    """Run a script with a screen of 800×600; it fails the test if the script fails."""
    for tool in ("xvfb-run", "Xvfb", *tools):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: no screen to try windows on")
    done = subprocess.run(
        ["xvfb-run", "-a", "-s", "-screen 0 800x600x24", sys.executable, "-c", PRELUDE + script],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_no_screen_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UserError, match=r"no screen here .* --display none"):
        Windows()


@pytest.mark.skipif(sys.platform != "linux", reason="DISPLAY names the screen on Linux only")
def test_a_screen_that_does_not_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":9999")
    with pytest.raises(UserError, match="cannot open a window on :9999") as caught:
        Windows()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("frame", "window"),
    [
        ((640, 480), (640, 480)),
        ((3840, 2160), (1280, 720)),
        ((1080, 1920), (405, 720)),
        ((1, 1), (360, 360)),
        ((16_000, 2), (1280, 1)),
    ],
)
def test_a_window_opens_at_a_size_that_fits(frame: tuple[int, int], window: tuple[int, int]) -> None:
    assert window_size(*frame) == window


def test_frames_are_seen_and_q_quits() -> None:
    done = under_xvfb(
        """
display = Display(DisplaySettings(mode="window"), ["clip.mp4"], None)
assert display.wants_pixels and display.poll() is None
display.deliver(*half_red(0))
assert until_quit(display, 1.0) is None
red = (screen() == (0, 0, 255)).all(axis=2)
assert red.sum() > 10_000, red.sum()
search = ["xdotool", "search", "--name", "^clip.mp4 - "]
assert subprocess.run(search, capture_output=True).stdout
subprocess.run([*search, "windowfocus", "key", "q"], check=True)
assert until_quit(display, 5.0) == "q"
display.close()
""",
        "import",
        "xdotool",
    )
    assert done.stdout == ""
    assert "QFont" not in done.stderr and "Warning" not in done.stderr


def red_side(mirror: bool) -> float:
    """Where the red half is, px from the left of the screen; a process shows one set of windows."""
    done = under_xvfb(
        f"""
display = Display(DisplaySettings(mode="window", mirror={mirror}), ["clip.mp4"], None)
display.deliver(*half_red(0))
for _ in range(100):  # the window takes a moment to be there
    until_quit(display, 0.2)
    red = np.nonzero((screen() == (0, 0, 255)).all(axis=2))[1]
    if red.size:
        break
print(red.mean())
display.close()
""",
        "import",
    )
    return float(done.stdout)


def test_the_mirror_shows_left_on_the_right() -> None:
    assert red_side(mirror=False) + 100 < red_side(mirror=True)


CLOSE = """
import ctypes, ctypes.util
class Message(ctypes.Structure):  # XClientMessageEvent, padded to the size of XEvent
    _fields_ = [("type", ctypes.c_int), ("serial", ctypes.c_ulong), ("send", ctypes.c_int),
                ("display", ctypes.c_void_p), ("window", ctypes.c_ulong), ("kind", ctypes.c_ulong),
                ("format", ctypes.c_int), ("data", ctypes.c_long * 5), ("rest", ctypes.c_long * 24)]

def press_close(title):  # what a window manager does when its close button is pressed
    found = subprocess.run(["xdotool", "search", "--name", title], capture_output=True, check=True)
    x = ctypes.CDLL(ctypes.util.find_library("X11"))
    x.XOpenDisplay.restype = ctypes.c_void_p
    x.XInternAtom.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    x.XInternAtom.restype = ctypes.c_ulong
    x.XSendEvent.argtypes = [ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
    x.XCloseDisplay.argtypes = [ctypes.c_void_p]
    screen = x.XOpenDisplay(None)
    protocols, delete = (x.XInternAtom(screen, n, 0) for n in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
    for window in map(int, found.stdout.split()):
        message = Message(type=33, window=window, kind=protocols, format=32)
        message.data[0] = delete
        x.XSendEvent(screen, window, 0, 0, ctypes.byref(message))
    x.XCloseDisplay(screen)
"""


def test_closing_the_last_window_quits() -> None:
    under_xvfb(
        CLOSE
        + """
display = Display(DisplaySettings(mode="window"), ["a", "b"], None)
for source in "ab":
    display.deliver(*half_red(0, source=source))
assert until_quit(display, 0.5) is None
press_close("^a - ")
assert until_quit(display, 1.0) is None
display.deliver(*half_red(1, source="a"))
search = ["xdotool", "search", "--onlyvisible", "--name"]
assert not subprocess.run([*search, "^a - "], capture_output=True).stdout
press_close("^b - ")
assert until_quit(display, 5.0) == "q"
display.close()
""",
        "xdotool",
    )
