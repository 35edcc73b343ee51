"""Network streams, served by the test: what comes, what is wrong, and what is told of it."""

import queue
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from pipeline.common.errors import UserError
from stages.capture.reader import Reader, SourceFailed
from stages.capture.sources import stream
from tests.support.media import open_source
from tests.support.rtsp import SECRETS, RtspServer

PROBED = 30
"""Pictures that FFmpeg may look at before it calls a stream open: a server that sends fewer is waited for."""


def jpeg(width: int = 64, height: int = 48) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1].tobytes()


class Server:
    """Sends what the test puts in: pictures; None is the end. Nothing there: it stalls."""

    def __init__(self) -> None:
        sends = self.sends = queue.Queue[bytes | None]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/secured"):
                    self.send_error(401)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    while (data := sends.get()) is not None:
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                        self.wfile.write(head.encode() + data + b"\r\n")
                except OSError:
                    pass  # the reader has gone

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def url(self, path: str = "live") -> str:
        return f"http://me:sec%2Fret@127.0.0.1:{self.server.server_address[1]}/{path}?token=sesame"

    def open(self, pictures: int = PROBED) -> Reader:
        for _ in range(pictures):
            self.sends.put(jpeg())
        return open_source(self.url())

    def close(self) -> None:
        self.sends.put(None)
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "TIMEOUT_S", 1.0)  # a loaded machine needs some of it to open the stream


def read_all(reader: Reader) -> tuple[int, str]:
    """How many pictures come until it fails, and how it does."""
    pictures = 0
    try:
        while True:
            assert reader.read() is not None
            pictures += 1
    except SourceFailed as error:
        return pictures, str(error)
    finally:
        reader.close()


def no_secret(text: str) -> bool:
    return not any(secret in text for secret in ("sec%", "ret@", "sesame", "me:"))


def test_pictures_and_their_times(server: Server) -> None:
    reader = server.open()
    assert (reader.info.kind, reader.info.width, reader.info.height) == ("live", 64, 48)
    times = []
    for _ in range(3):
        picture = reader.read()
        assert picture is not None and picture.image is not None
        assert picture.image.shape == (48, 64, 3)
        assert picture.image.flags["C_CONTIGUOUS"]
        assert abs(int(picture.image[0, 0, 0]) - 90) < 4
        times.append(picture.time_s)
    assert times == sorted(times)
    reader.close()


def test_the_server_ends_it(server: Server) -> None:
    reader = server.open()
    server.sends.put(None)
    pictures, error = read_all(reader)
    assert pictures == PROBED - 1
    assert "/live: the pictures have stopped" in error
    assert no_secret(error)


@pytest.mark.usefixtures("hasty")
def test_a_stall_is_told_once_the_time_is_out(server: Server) -> None:
    """Pictures that FFmpeg still holds then are no sign of life."""
    reader = server.open()
    pictures, error = read_all(reader)
    assert PROBED - 3 <= pictures < PROBED
    assert re.search(r"/live: no picture for \d+\.\d s$", error)
    assert no_secret(error)


class Clock:
    """Each look at it is a time-out after the one before."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        self.now_s += stream.TIMEOUT_S
        return self.now_s


def test_a_picture_that_comes_with_the_end_of_the_time_is_none(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = server.open()
    assert reader.read() is not None
    monkeypatch.setattr(stream, "time", Clock())
    with pytest.raises(SourceFailed, match=r"/live: no picture for 4\.0 s$"):
        reader.read()
    reader.close()


@pytest.mark.usefixtures("hasty")
def test_pictures_that_grow_beyond_the_limits_find_no_room(server: Server) -> None:
    reader = server.open()
    for _ in range(3):
        server.sends.put(jpeg(16_000, 4_000))  # 192 MB, of a few kB
    _, error = read_all(reader)
    assert "no picture for " in error
    assert error.endswith("can't be decoded, or is too large (Invalid argument)")


@pytest.mark.parametrize("size", [(16_000, 4_000), (20_000, 100)])
@pytest.mark.usefixtures("hasty")
def test_pictures_that_are_too_large_from_the_start(server: Server, size: tuple[int, int]) -> None:
    picture = jpeg(*size)
    for _ in range(PROBED):
        server.sends.put(picture)
    with pytest.raises(UserError, match="this stream does not open: ") as told:
        open_source(server.url())
    assert "too large" in str(told.value) or "16384 is the limit" in str(told.value)
    assert no_secret(str(told.value))


@pytest.mark.usefixtures("hasty")
def test_a_server_that_says_nothing(server: Server) -> None:
    with pytest.raises(UserError, match="this stream does not open: no answer for 1 s") as told:
        server.open(pictures=0)
    assert no_secret(str(told.value))


def test_what_is_wrong_is_told_without_credentials(server: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://me:sec%2Fret@127.0.0.1:{unused.getsockname()[1]}/live"
        with pytest.raises(UserError, match="Connection refused") as told:
            open_source(nobody)
    assert no_secret(str(told.value))
    with pytest.raises(UserError, match="401 Unauthorized") as told:
        open_source(server.url("secured"))
    assert no_secret(str(told.value))


def test_no_file_of_this_machine_is_read_through_a_stream(server: Server) -> None:
    assert "file" not in stream.OPTIONS["protocol_whitelist"].split(",")


@pytest.mark.parametrize("udp", [True, False])
def test_an_rtsp_camera_is_asked_for_tcp_and_may_have_udp_alone(udp: bool) -> None:
    server = RtspServer(udp=udp)
    try:
        reader = open_source(server.url)
        assert (reader.info.kind, reader.info.width, reader.info.height) == ("live", 320, 240)
        assert reader.read() is not None
        reader.close()
    finally:
        server.kill()


@pytest.mark.parametrize("method", ["basic", "digest"])
def test_rtsp_with_a_password(method: str) -> None:
    rtsp = RtspServer(method)
    try:
        reader = open_source(rtsp.url)
        assert reader.read() is not None
        reader.close()
        with pytest.raises(UserError, match="does not open: Server returned 401 Unauthorized") as refused:
            open_source(rtsp.url.replace(SECRETS[1], "wrong"))
        assert not any(secret in str(refused.value) for secret in (*SECRETS, "wrong"))
    finally:
        rtsp.kill()
