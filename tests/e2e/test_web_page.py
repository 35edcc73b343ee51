"""The page of a whole run, in a real browser."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from stages.web.spec import find_port
from tests.support.browser import Browser, browser
from tests.support.runs import CLIP_FRAMES, Run, Start, balance, read_jsonl

pytestmark = pytest.mark.long

TOKEN = "a-token-of-some-length"
DESKTOP, PHONE = (1366, 768), (390, 844)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture
def page(chromium: Browser) -> Iterator[Browser]:
    """A browser that knows nothing of earlier runs, and whose console has no errors at the end."""
    chromium.open("about:blank")
    chromium.size(*DESKTOP)
    chromium.errors()
    yield chromium
    assert chromium.errors() == []
    chromium.open("about:blank")


class Served:
    """A run of the demo with its page."""

    def __init__(self, start: Start, quick: list[str], *options: object) -> None:
        port = find_port("127.0.0.1", 0)
        web = ["--display", "web", "--set", f"web.port={port}"]
        self.run: Run = start(*quick, "--source", "demo:2", *web, *options)
        self.url = self.run.line(r"web: the page is at (http://127.0.0.1:\d+/)")[1]


def numbers(page: Browser) -> str:
    """Return the probabilities beside the picture."""
    found: str = page.run(
        "return [...document.querySelectorAll('#faces dd')].map((d) => d.textContent).join(' ')"
    )
    return found


def test_the_picture_moves_and_the_numbers_change(start: Start, quick: list[str], page: Browser) -> None:
    served = Served(start, quick)
    page.open(served.url)
    page.until_it_moves()
    page.until(lambda: page.text("connection") == "Live")
    before = page.until(lambda: numbers(page))
    page.until(lambda: numbers(page) != before)
    page.until(lambda: "frames/s · latency " in page.text("figures") and "–" not in page.text("figures"))
    heads = page.run("return [...document.querySelectorAll('#faces h3 b')].map((b) => b.textContent)")
    assert heads and set(heads) <= {
        "angry",
        "disgust",
        "fear",
        "happy",
        "sad",
        "surprise",
        "neutral",
        "uncertain",
    }
    served.run.signal(signal.SIGINT)
    assert served.run.end().status == 130


def test_two_viewers_and_a_hidden_one(start: Start, quick: list[str], page: Browser) -> None:
    served = Served(start, quick)
    page.open(served.url)
    page.until_it_moves()
    with browser() as second:
        second.open(served.url)
        second.until_it_moves()
        page.until_it_moves()
        second.driver.switch_to.new_window("tab")  # the page is behind it now
        second.driver.switch_to.window(second.driver.window_handles[0])
        second.until_it_moves()
    page.until_it_moves()


def test_a_killed_page_process_comes_back_and_the_page_finds_it(
    start: Start, quick: list[str], page: Browser, tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    served = Served(start, quick, "--results", results)
    page.open(served.url)
    page.until_it_moves()
    os.kill(served.run.pid("web"), signal.SIGKILL)
    page.until(lambda: page.text("connection") == "Connection lost; trying again…")
    served.run.line("web died \\(signal SIGKILL\\); it is started again now")
    page.until(lambda: page.text("connection") == "Live")
    page.until_it_moves()
    served.run.signal(signal.SIGINT)
    done = served.run.end()
    assert done.status == 130
    assert [r["frame"] for r in read_jsonl(results)] == list(range(len(read_jsonl(results))))


@pytest.mark.parametrize("name", ["display", "detect-1"])
def test_a_restart_is_shown_as_it_happens(start: Start, quick: list[str], page: Browser, name: str) -> None:
    served = Served(start, quick)
    page.open(served.url)
    page.until_it_moves()
    page.run(
        "window.said = []; const line = document.getElementById('connection');"
        "new MutationObserver(() => said.push(line.textContent)).observe(line, {childList: true})"
    )
    os.kill(served.run.pid(name), signal.SIGKILL)
    page.until(lambda: f"{name} is being started again" in page.run("return said"))
    page.until(lambda: page.text("connection") == "Live")
    page.until_it_moves()
    page.press("i")
    cells = "return [...document.querySelectorAll('#processes tr')].map((r) => r.textContent)"
    page.until(lambda: f"{name}running1" in page.run(cells))
    page.press(Keys.ESCAPE)


def test_at_the_end_the_balance_is_shown(start: Start, quick: list[str], page: Browser, clip: Path) -> None:
    port = find_port("127.0.0.1", 0)
    run = start(
        *quick,
        "--source",
        clip,
        "--display",
        "web",
        "--set",
        f"web.port={port}",
        "--set",
        "capture.pace_fps=8",
    )
    run.line("the page is at")
    page.open(f"http://127.0.0.1:{port}/")
    page.until_it_moves()
    page.until(lambda: page.text("connection") == "The run is over")
    assert page.text("figures") == f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}"
    done = run.end()
    assert done.status == 0
    assert page.text("connection") == "The run is over"  # though its server is gone


def test_the_page_by_keyboard_alone(start: Start, quick: list[str], page: Browser) -> None:
    served = Served(start, quick)
    page.open(served.url)
    page.until_it_moves()
    reached = []
    for _ in range(10):
        page.press(Keys.TAB)
        reached.append(page.run("return document.activeElement.id"))
    tools = ["pause", "boxes", "labels", "names", "mirror", "blur", "snapshot", "fullscreen", "details"]
    assert reached[: len(tools)] == tools
    pressed = "return document.getElementById(arguments[0]).getAttribute('aria-pressed')"
    for key, name in (("b", "boxes"), ("l", "labels"), ("n", "names"), ("m", "mirror"), ("u", "blur")):
        before = page.run(pressed, name)
        page.press(key)
        assert page.run(pressed, name) != before
    page.press("i")
    assert page.run("return document.getElementById('dialog').open")
    page.press(Keys.ESCAPE)
    assert not page.run("return document.getElementById('dialog').open")
    page.run("document.activeElement.blur()")
    page.press(" ")
    page.until(lambda: page.text("connection") == "Paused")
    assert page.picture() == page.picture()
    page.press(" ")
    page.until_it_moves()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_is_cut_off_and_everyone_can_use_it(
    start: Start, quick: list[str], page: Browser, size: tuple[int, int], dark: bool
) -> None:
    page.size(*size, mobile=size == PHONE, dark=dark)
    served = Served(start, quick)
    page.open(served.url)
    page.until_it_moves()
    page.until(lambda: numbers(page))
    width, inner_width, height, inner_height = page.run(
        "const d = document.documentElement; return [d.scrollWidth, innerWidth, d.scrollHeight, innerHeight]"
    )
    assert width <= inner_width == size[0]
    places = page.run(
        "return ['pictures', 'people', 'minute'].map((id) => document.getElementById(id))"
        ".map((e) => e.getBoundingClientRect()).map((r) => [r.left, r.top, r.right, r.bottom])"
    )
    pictures, people, minute = places
    if size == DESKTOP:
        assert height <= inner_height  # nothing scrolls
        assert pictures[2] <= people[0] and people[3] <= minute[1]
        assert 1.8 < (pictures[2] - pictures[0]) / (people[2] - people[0]) < 2.2
    else:
        assert pictures[3] <= people[1] and people[3] <= minute[1]  # stacked
    assert page.violations() == []
    page.press("i")
    assert page.violations() == []


def test_a_snapshot_is_a_png_with_boxes(
    start: Start, quick: list[str], page: Browser, tmp_path: Path
) -> None:
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    served = Served(start, quick)
    page.open(served.url)
    page.until_it_moves()
    page.until(lambda: numbers(page))
    page.press("s")
    (saved,) = page.until(lambda: list(tmp_path.glob("emotions-*.png")))
    assert saved.read_bytes().startswith(b"\x89PNG")
    assert len(saved.read_bytes()) > 10_000


def test_a_token_is_taken_from_the_address_and_asked_for_without(
    start: Start, quick: list[str], page: Browser
) -> None:
    served = Served(start, quick, "--set", f"web.token={TOKEN}")
    page.open(served.url)
    page.until(lambda: page.run("return document.getElementById('login').open"))
    assert page.picture() == 0
    page.press("wrong", Keys.ENTER)
    page.until(lambda: page.text("wrong") == "wrong token\n")
    page.press(TOKEN, Keys.ENTER)
    page.until_it_moves()
    page.driver.delete_all_cookies()
    page.open("about:blank")
    page.open(f"{served.url}#token={TOKEN}")
    page.until_it_moves()
    assert "token" not in page.driver.current_url
    page.driver.refresh()
    page.until_it_moves()
    page.errors()  # the browser's console notes that an answer was 401
