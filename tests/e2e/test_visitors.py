"""The cameras of the page's visitors, in real browsers whose camera plays a film."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.web.spec import find_port
from tests.support.browser import DESKTOP, PHONE, Browser, browser, fake_camera, fresh, make_film
from tests.support.runs import LIMIT_S, Run, Start, read_jsonl, starting


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mjpeg")


@pytest.fixture(scope="module")
def chromium(film: Path) -> Iterator[Browser]:
    with browser(*fake_camera(film)) as made:
        yield made


@pytest.fixture
def page(chromium: Browser) -> Iterator[Browser]:
    yield from fresh(chromium)


class Served:
    """A run whose sources are its visitors."""

    def __init__(self, start: Start, quick: list[str], *options: object, source: str = "browser:1") -> None:
        port = find_port("127.0.0.1", 0)
        web = ["--set", "display.mode=auto", "--set", f"web.port={port}"]
        self.run: Run = start(*quick, "--source", source, *web, *options)
        self.run.line(r"web: the page is at https?://")
        self.url = f"http://127.0.0.1:{port}/"

    def end(self) -> dict[str, tuple[int, int]]:
        """End the run; return captured and ok by source. Every frame has its outcome, and none failed."""
        self.run.signal(signal.SIGINT)
        done = self.run.end()
        assert done.status == 130
        pattern = r"^(browser#\d+): captured (\d+) = ok (\d+) \+ dropped (\d+).* \+ failed 0$"
        found = {}
        for name, captured, ok, dropped in re.findall(pattern, done.stdout, re.MULTILINE):
            assert int(captured) == int(ok) + int(dropped)
            found[name] = int(captured), int(ok)
        return found


@pytest.fixture(scope="module")
def served(environment: dict[str, str], quick: list[str]) -> Iterator[Served]:
    """The run of all tests that only look."""
    with starting(environment) as start:
        yield Served(start, quick, source="browser:2")


def open_page(page: Browser, url: str) -> None:
    page.open(url)
    page.until(lambda: page.run("return !document.getElementById('invitation').hidden"), "no invitation")


def use_camera(page: Browser, url: str) -> None:
    """Open the page and press its button."""
    open_page(page, url)
    page.click("use")


def until_faces(page: Browser) -> None:
    """Wait until the own picture moves and a face stands beside it."""
    page.until_it_moves()
    page.until(lambda: page.run("return document.querySelectorAll('#faces li').length"), "no face")


def test_a_visitor_sees_what_is_found_in_the_own_picture(
    start: Start, quick: list[str], page: Browser, tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    served = Served(start, quick, "--results", results, source="browser")
    open_page(page, served.url)
    page.until(lambda: page.text("stored") == "This run writes results to r.jsonl.")
    assert "other visitors don't see them. This run writes results to r.jsonl." in page.text("privacy")
    page.click("use")
    until_faces(page)
    assert page.run("return document.getElementById('invitation').hidden")
    page.press("c")
    page.until(lambda: page.run("return !document.querySelector('figure')"))  # nothing is shown any more
    page.press("c")
    until_faces(page)
    page.press(" ")
    page.until(lambda: page.text("connection") == "Paused")
    page.press(" ")
    until_faces(page)
    counts = served.end()
    records = read_jsonl(results)
    for source, (captured, ok) in counts.items():
        own = [record for record in records if record["source"] == source]
        assert [record["frame"] for record in own] == list(range(captured))
        assert sum(record["status"] == "ok" for record in own) == ok
    assert len(counts) == 2  # of four places two were taken
    assert any(record["faces"] for record in records)


def test_visitors_see_the_own_picture_alone_and_wait_for_a_place(
    served: Served, page: Browser, film: Path, tmp_path: Path
) -> None:
    plain = make_film(tmp_path / "plain.mjpeg", faces=0)
    with browser(*fake_camera(plain)) as other, browser(*fake_camera(film)) as third:
        use_camera(page, served.url)
        until_faces(page)
        use_camera(other, served.url)
        other.until_it_moves()
        use_camera(third, served.url)
        expected = "All 2 places are taken. You get the next one that is free."
        third.until(lambda: third.text("offer") == expected)
        assert third.picture() == 0
        for one in (page, other):
            one.until_it_moves()
            assert one.run("return document.querySelectorAll('figure').length") == 1
        assert other.run("return document.querySelectorAll('#faces li').length") == 0
        other.open("about:blank")
        until_faces(third)
        until_faces(page)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--use-fake-device-for-media-stream", "--deny-permission-prompts"], "This page was not allowed to"),
        (
            ["--use-fake-device-for-media-stream=device-count=0", "--use-fake-ui-for-media-stream"],
            "No camera",
        ),
    ],
    ids=["refused", "none"],
)
def test_what_keeps_the_camera_from_starting_is_said(served: Served, options: list[str], said: str) -> None:
    with browser(*options) as page:
        use_camera(page, served.url)
        page.until(lambda: page.text("trouble").startswith(said))
        assert page.violations() == []
        page.until(lambda: page.run("return !document.getElementById('use').hidden"))  # to try again


def test_a_page_that_browsers_give_no_camera_says_so(served: Served, page: Browser) -> None:
    # As a page by http from another machine; the browser of a test is always on this one.
    insecure = "Object.defineProperty(window, 'isSecureContext', {value: false})"
    script = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": insecure})
    use_camera(page, served.url)
    page.until(lambda: page.text("trouble").startswith("Browsers give cameras to https pages alone"))
    page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_everyone_can_use_it(served: Served, page: Browser, size: tuple[int, int], dark: bool) -> None:
    page.size(*size, mobile=size == PHONE, dark=dark)
    open_page(page, served.url)
    assert page.violations() == []
    page.click("use")
    until_faces(page)
    assert page.violations() == []
    width, inner_width, height, inner_height = page.run(
        "const d = document.documentElement; return [d.scrollWidth, innerWidth, d.scrollHeight, innerHeight]"
    )
    assert width <= inner_width == size[0]
    assert size == PHONE or height <= inner_height  # nothing scrolls


def test_on_a_phone_on_its_side_the_face_is_beside_the_picture(served: Served, page: Browser) -> None:
    page.size(667, 375, mobile=True)
    use_camera(page, served.url)
    until_faces(page)
    where = "return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()"
    picture = page.run(where, "#pictures")
    face = page.until(lambda: page.run(where, "#faces li"))
    assert face["left"] >= picture["right"] and face["width"] > 0
    assert max(picture["bottom"], face["bottom"]) <= 375
    assert page.run("return document.documentElement.scrollWidth") == 667
    assert page.violations() == []


def test_a_page_without_a_picture_says_that_the_run_is_over(
    start: Start, quick: list[str], page: Browser
) -> None:
    served = Served(start, quick)
    open_page(page, served.url)
    served.end()
    page.until(lambda: page.text("waiting").startswith("The run is over."))
    assert not page.run("return document.getElementById('waiting').hidden")
    assert page.run("return document.getElementById('invitation').hidden")


@pytest.mark.parametrize("name", ["web", "capture-1", "detect-1", "display", "broker"])
def test_after_a_kill_the_page_goes_on_by_itself(
    start: Start, quick: list[str], page: Browser, name: str
) -> None:
    served = Served(start, quick)
    use_camera(page, served.url)
    until_faces(page)
    os.kill(served.run.pid(name), signal.SIGKILL)
    served.run.line(rf"{name} died \(signal SIGKILL\)")
    page.until(lambda: page.text("connection") == "Live" and page.text("trouble") == "")
    page.until_it_moves()
    until_faces(page)
    ((captured, ok),) = served.end().values()
    assert captured >= ok > 0


def test_from_another_machine_by_https_and_a_token(
    start: Start, quick: list[str], film: Path, tmp_path: Path
) -> None:
    """As docs/recipes.md has it for a phone."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it makes the certificate")
    certificate, key, token = tmp_path / "page.pem", tmp_path / "page.key", "a-token-of-some-length"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=camera -addext "
        f"subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True, timeout=LIMIT_S)
    given = {"host": "0.0.0.0", "token": token, "certificate": certificate, "key": key}
    options = [word for name, value in given.items() for word in ("--set", f"web.{name}={value}")]
    served = Served(start, quick, *options)
    with browser(*fake_camera(film), "--ignore-certificate-errors") as page:
        use_camera(page, f"{served.url.replace('http:', 'https:')}#token={token}")
        until_faces(page)
    served.end()
