"""Chromium, as people see a page with it."""

import base64
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from selenium import webdriver
from selenium.common.exceptions import JavascriptException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from pipeline.config.sources import SourceSpec
from stages.capture.sources.demo import DemoReader
from stages.image_codec import to_jpeg

LIMIT_S = 90.0
DESKTOP, PHONE = (1366, 768), (390, 844)  # sizes of a window, px
AXE = Path(sys.prefix) / "node" / "node_modules" / "axe-core" / "axe.min.js"  # .ci/run puts it there

OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # which root has not
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
)


class Browser:
    """One window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def size(self, width: int, height: int, *, mobile: bool = False, dark: bool = False) -> None:
        """Be a screen of this size, px, with light or dark colours."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def run(self, script: str, *arguments: object) -> Any:
        """Return what a script returns; a promise is waited for."""
        return self.driver.execute_script(script, *arguments)

    def text(self, name: str) -> str:
        """The text of the element with an id."""
        found: str = self.run("return document.getElementById(arguments[0]).textContent", name)
        return found

    def click(self, name: str) -> None:
        self.driver.find_element("id", name).click()

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def until(self, what: Callable[[], Any], message: str = "") -> Any:
        """Wait until `what` gives something that is true, and return that."""
        deadline_s = time.monotonic() + LIMIT_S
        while True:
            try:
                found = what()
            except JavascriptException:  # the page is not there yet
                found = None
            if found:
                return found
            assert time.monotonic() < deadline_s, f"waited too long: {message or self.text('connection')}"

    def picture(self) -> int:
        """Return a sum of what the first picture shows: another one once it moves."""
        found: int = self.run(
            "const canvas = document.querySelector('figure canvas'); if (!canvas?.width) return 0;"
            "const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
            "let sum = 0; for (let i = 0; i < data.length; i += 97) sum = (sum * 31 + data[i]) % 1000000007;"
            "return sum"
        )
        return found

    def until_it_moves(self) -> None:
        before = self.until(self.picture, "no picture")
        self.until(lambda: self.picture() != before, "the picture stands still")

    def violations(self) -> list[str]:
        """Return what axe-core finds on the page."""
        if not AXE.is_file():
            pytest.skip(f"no {AXE}: npm install --prefix .venv/node axe-core")
        self.driver.execute_script(AXE.read_text(encoding="utf-8"))
        found = self.run("return axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]

    def errors(self) -> list[str]:
        """Return what the browser's console has of errors since the last call, lost connections apart."""
        lines = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return [line for line in lines if "ERR_CONNECTION_REFUSED" not in line and "WebSocket" not in line]

    def save(self, path: Path) -> None:
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(*options: str) -> Iterator[Browser]:
    """Give a browser; the test is skipped where there is none."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed: no browser to look at the page with")
    wanted = Options()
    wanted.binary_location = program
    for option in (*OPTIONS, *options):
        wanted.add_argument(option)
    wanted.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=wanted, service=Service(driver))
    made.set_page_load_timeout(LIMIT_S)
    made.set_script_timeout(LIMIT_S)
    try:
        yield Browser(made)
    finally:
        made.quit()


def fresh(chromium: Browser) -> Iterator[Browser]:
    """For a fixture: the browser without an earlier page; its console has no errors at the end."""
    chromium.open("about:blank")
    chromium.size(*DESKTOP)
    chromium.errors()
    yield chromium
    assert chromium.errors() == []
    chromium.open("about:blank")


def fake_camera(film: Path) -> list[str]:
    """Return the options of a browser whose camera shows a film over and over, and which asks nobody."""
    return [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    ]


def make_film(path: Path, faces: int = 1, frames: int = 60) -> Path:
    """Write the demo, or for 0 faces a plain picture of changing shade, as a fake camera plays it (MJPEG)."""
    reader = DemoReader(SourceSpec(f"demo:{max(1, faces)}", "demo", "demo"))
    with path.open("wb") as file:
        for number in range(frames):
            picture = reader.read()
            assert picture is not None and picture.image is not None
            image = picture.image if faces else np.full((480, 640, 3), number, np.uint8)
            file.write(to_jpeg(np.asarray(cv2.resize(image, (640, 480)), np.uint8), 90))
    return path
