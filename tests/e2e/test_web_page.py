"""The page of a whole run, in a real browser."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from stages.web.spec import find_port
from tests.support.browser import DESKTOP, PHONE, Browser, browser, fresh
from tests.support.runs import EMOTIONS, Run, Start, read_jsonl, starting

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture
def page(chromium: Browser) -> Iterator[Browser]:
    yield from fresh(chromium)


class Served:
    """A run of the demo with its page."""

    def __init__(self, start: Start, quick: list[str], *options: object) -> None:
        port = find_port("127.0.0.1", 0)
        web = ["--display", "web", "--set", f"web.port={port}"]
        self.run: Run = start(*quick, "--source", "demo:2", *web, *options)
        self.url = self.run.line(r"web: the page is at (http://127.0.0.1:\d+/)")[1]


@pytest.fixture(scope="module")
def served(environment: dict[str, str], quick: list[str]) -> Iterator[Served]:
    """The run of all tests that only look."""
    with starting(environment) as start:
        yield Served(start, quick)


@pytest.fixture
def demo(served: Served, page: Browser) -> Browser:
    """The page of that run, with numbers beside a picture that moves."""
    page.open(served.url)
    page.until_it_moves()
    page.until(lambda: numbers(page))
    return page


def numbers(page: Browser) -> str:
    """Return the probabilities beside the picture."""
    found: str = page.run(
        "return [...document.querySelectorAll('#faces dd')].map((d) => d.textContent).join(' ')"
    )
    return found


def test_the_picture_moves_and_the_numbers_change(demo: Browser) -> None:
    demo.until(lambda: demo.text("connection") == "Live")
    before = numbers(demo)
    demo.until(lambda: numbers(demo) != before)
    demo.until(lambda: "frames/s · latency " in demo.text("figures") and "–" not in demo.text("figures"))
    heads = demo.run("return [...document.querySelectorAll('#faces h3 b')].map((b) => b.textContent)")
    assert heads and set(heads) <= {*EMOTIONS, "uncertain"}


def test_two_viewers_and_a_hidden_one(demo: Browser, served: Served) -> None:
    with browser() as second:
        second.open(served.url)
        second.until_it_moves()
        demo.until_it_moves()
        second.driver.switch_to.new_window("tab")  # the page is behind it now
        second.driver.switch_to.window(second.driver.window_handles[0])
        second.until_it_moves()
    demo.until_it_moves()


def test_the_page_by_keyboard_alone(demo: Browser) -> None:
    reached = []
    for _ in range(10):
        demo.press(Keys.TAB)
        reached.append(demo.run("return document.activeElement.id"))
    tools = ["pause", "boxes", "labels", "names", "mirror", "blur", "snapshot", "fullscreen", "details"]
    assert reached[: len(tools)] == tools
    pressed = "return document.getElementById(arguments[0]).getAttribute('aria-pressed')"
    for key, name in (("b", "boxes"), ("l", "labels"), ("n", "names"), ("m", "mirror"), ("u", "blur")):
        before = demo.run(pressed, name)
        demo.press(key)
        assert demo.run(pressed, name) != before
    demo.press("i")
    assert demo.run("return document.getElementById('dialog').open")
    demo.press(Keys.ESCAPE)
    assert not demo.run("return document.getElementById('dialog').open")
    demo.run("document.activeElement.blur()")
    demo.press(" ")
    demo.until(lambda: demo.text("connection") == "Paused")
    assert demo.picture() == demo.picture()
    demo.press(" ")
    demo.until_it_moves()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_is_cut_off_and_everyone_can_use_it(demo: Browser, size: tuple[int, int], dark: bool) -> None:
    demo.size(*size, mobile=size == PHONE, dark=dark)
    demo.driver.refresh()
    demo.until_it_moves()
    demo.until(lambda: numbers(demo))
    width, inner_width, height, inner_height = demo.run(
        "const d = document.documentElement; return [d.scrollWidth, innerWidth, d.scrollHeight, innerHeight]"
    )
    assert width <= inner_width == size[0]
    places = demo.run(
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
    assert demo.violations() == []
    demo.press("i")
    assert demo.violations() == []


def test_a_snapshot_is_a_png_with_boxes(demo: Browser, tmp_path: Path) -> None:
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
    demo.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    demo.press("s")
    (saved,) = demo.until(lambda: list(tmp_path.glob("emotions-*.png")))
    # Chromium creates the file before it writes it.
    content = demo.until(lambda: saved.read_bytes() if b"IEND" in saved.read_bytes() else None)
    assert content.startswith(b"\x89PNG")
    assert len(content) > 10_000


def test_killed_processes_come_back_and_the_end_is_shown(
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

    page.run(
        "window.said = []; const line = document.getElementById('connection');"
        "new MutationObserver(() => said.push(line.textContent)).observe(line, {childList: true})"
    )
    cells = "return [...document.querySelectorAll('#processes tr')].map((r) => r.textContent)"
    for name in ("display", "detect-1"):
        os.kill(served.run.pid(name), signal.SIGKILL)
        page.until(lambda name=name: f"{name} is being started again" in page.run("return said"))
        page.until(lambda: page.text("connection") == "Live")
        page.until_it_moves()
        page.press("i")
        page.until(lambda name=name: f"{name}running1" in page.run(cells))
        page.press(Keys.ESCAPE)

    served.run.signal(signal.SIGINT)
    page.until(lambda: page.text("connection") == "The run is over")
    done = served.run.end()
    assert done.status == 130
    assert page.text("connection") == "The run is over"  # though its server is gone
    assert page.text("figures") == done.stdout.splitlines()[0]
    assert [r["frame"] for r in read_jsonl(results)] == list(range(len(read_jsonl(results))))


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
