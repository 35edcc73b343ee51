"""The cameras of the page's visitors, in real browsers whose camera plays a film."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.web.spec import find_port
from tests.support.browser import Browser, browser, fake_camera, make_film
from tests.support.runs import Run, Start, read_jsonl

pytestmark = pytest.mark.long

DESKTOP, PHONE = (1366, 768), (390, 844)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mjpeg")


@pytest.fixture(scope="module")
def chromium(film: Path) -> Iterator[Browser]:
    with browser(*fake_camera(film)) as made:
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
    """A run whose sources are its visitors."""

    def __init__(self, start: Start, quick: list[str], *options: object, source: str = "browser") -> None:
        port = find_port("127.0.0.1", 0)
        web = ["--set", "display.mode=auto", "--set", f"web.port={port}"]
        self.run: Run = start(*quick, "--source", source, *web, *options)
        self.url = self.run.line(r"web: the page is at (http://127.0.0.1:\d+/)")[1]

    def end(self) -> dict[str, tuple[int, int]]:
        """End the run; return captured and ok by source. Every frame has its outcome."""
        self.run.signal(signal.SIGINT)
        done = self.run.end()
        assert done.status == 130
        found = {}
        for name, captured, ok, dropped, failed in re.findall(
            r"^(browser#\d+): captured (\d+) = ok (\d+) \+ dropped (\d+).* \+ failed (\d+)$",
            done.stdout,
            re.M,
        ):
            assert int(captured) == int(ok) + int(dropped) + int(failed)
            assert int(failed) == 0
            found[name] = int(captured), int(ok)
        return found


def use_camera(page: Browser, url: str) -> None:
    """Open the page and press its button."""
    page.open(url)
    page.until(lambda: page.run("return !document.getElementById('invitation').hidden"))
    page.click("use")


def until_faces(page: Browser) -> None:
    """Wait until the own picture moves and a face stands beside it."""
    page.until_it_moves()
    page.until(lambda: page.run("return document.querySelectorAll('#faces li').length"), "no face")


def test_a_visitor_sees_what_is_found_in_the_own_picture(
    start: Start, quick: list[str], page: Browser, tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    served = Served(start, quick, "--results", results)
    page.open(served.url)
    page.until(lambda: page.text("stored") == "This run writes results to r.jsonl.")
    assert "other visitors don't see them. This run writes results to r.jsonl." in page.text("privacy")
    page.click("use")
    until_faces(page)
    assert page.run("return document.getElementById('invitation').hidden")
    page.press("c")
    page.until(lambda: page.run("return !document.querySelector('figure')"))  # nothing is shown any more
    page.press("c")
    until_faces(page)
    counts = served.end()
    records = read_jsonl(results)
    for source, (captured, ok) in counts.items():
        own = [record for record in records if record["source"] == source]
        assert [record["frame"] for record in own] == list(range(captured))
        assert sum(record["status"] == "ok" for record in own) == ok
    assert sum(ok > 0 for _, ok in counts.values()) >= 1
    assert any(record["faces"] for record in records)


@pytest.mark.parametrize("name", ["web", "capture-1", "detect-1", "broker"])
def test_after_a_kill_the_page_goes_on_by_itself(
    start: Start, quick: list[str], page: Browser, name: str
) -> None:
    served = Served(start, quick, source="browser:1")
    use_camera(page, served.url)
    until_faces(page)
    os.kill(served.run.pid(name), signal.SIGKILL)
    served.run.line(rf"{name} died \(signal SIGKILL\)")
    page.until(lambda: page.text("connection") == "Live" and page.text("trouble") == "")
    page.until_it_moves()
    until_faces(page)
    ((captured, ok),) = served.end().values()
    assert captured > ok > 0 or captured == ok
