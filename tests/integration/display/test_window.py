"""Windows are tried in processes of their own, under a screen of their own (Xvfb)."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from stages.display.sinks.window import window_size
from stages.display.spec import DisplaySettings, resolve

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
        resolve(DisplaySettings(mode="window"))


@pytest.mark.skipif(sys.platform != "linux", reason="DISPLAY names the screen on Linux only")
def test_a_screen_that_does_not_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":9999")
    with pytest.raises(UserError, match="cannot open a window on :9999") as caught:
        resolve(DisplaySettings(mode="window"))
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


def test_closing_the_window_quits() -> None:
    under_xvfb(
        CLOSE
        + """
display = Display(DisplaySettings(mode="window"), ["a", "b"], None)
for source in "ab":
    display.deliver(*half_red(0, source=source))
assert until_quit(display, 0.5) is None
press_close("^facial emotions")
assert until_quit(display, 5.0) == "q"
display.close()
""",
        "xdotool",
    )


def test_window_opens_at_once_and_its_keys_change_the_picture(tmp_path: Path) -> None:
    """Each picture is looked at in the file that `s` saves."""
    under_xvfb(
        f"""
import os
from pathlib import Path
import cv2
os.chdir({str(tmp_path)!r})
display = Display(DisplaySettings(mode="window"), ["a", "b"], None)
window = display._sinks[0]

def press(keys):
    search = ["xdotool", "search", "--onlyvisible", "--name", "^facial emotions"]
    subprocess.run([*search, "windowfocus"], check=True)
    for key in keys.split():
        subprocess.run(["xdotool", "key", key], check=True)
        assert until_quit(display, 0.3) is None

def saved():
    press("s")
    (path,) = Path().glob("emotions-*.png")
    image = cv2.imread(str(path))
    path.unlink()
    return image

def show(sequence, *sources):
    for source in sources:
        display.deliver(*half_red(sequence, boxes=[(50.0, 20.0, 20.0, 30.0)], source=source))
    assert until_quit(display, 0.3) is None

def reds(image):  # in each quarter of the canvas
    red = (image == (0, 0, 255)).all(axis=2)
    return [int(half.sum()) > 20_000 for half in np.split(red, 4, axis=1)]

def whites(image):
    return int((image > 200).all(axis=2).sum())

assert until_quit(display, 0.3) is None
waiting = saved()
assert waiting.shape == (720, 1280, 3) and whites(waiting) > 300
show(0, "a")
assert reds(saved()) == [True, False, False, False]
show(1, "b")
assert reds(saved()) == [True, False, True, False]
plain = saved()
press("h")
assert whites(saved()[250:470, 300:980]) > whites(plain[250:470, 300:980]) + 1000
press("h m")
assert reds(saved()) == [False, True, False, True]
press("m space")
show(2, "a", "b")
assert window._views["a"].outcome.record.frame == 0
press("space d")
show(3, "a", "b")
assert window._views["a"].outcome.record.frame == 3
assert whites(saved()[:, 320:640]) > whites(plain[:, 320:640]) + 300  # bars
press("d d")
subprocess.run(["xdotool", "key", "q"], check=True)
assert until_quit(display, 5.0) == "q"
display.close()
""",
        "xdotool",
    )
