"""`download yunet` against a server of the test's own."""

import hashlib
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipeline import download
from pipeline.download import YUNET_FILE, download_yunet
from pipeline.errors import UserError

CONTENT = bytes(range(256)) * 400  # what the tests take for the detector

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def _small_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "YUNET_BYTES", len(CONTENT))
    monkeypatch.setattr(download, "YUNET_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(download, "TIMEOUT_S", 5.0)


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Return a function that serves one answer to whoever asks, and returns its address."""
    servers: list[tuple[HTTPServer, Thread]] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/{YUNET_FILE}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join(10)
        server.server_close()


def sends(content: bytes, announced: int | None = None) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if announced is not None:
            handler.send_header("Content-Length", str(announced))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def refusal(folder: Path, url: str) -> str:
    """Return what download_yunet says, after making sure that it left nothing behind."""
    with pytest.raises(UserError) as caught:
        download_yunet(folder, url)
    assert not list(folder.iterdir())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_right_file_is_kept(
    tmp_path: Path, serve: Callable[[Answer], str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "made" / "for it"
    path = download_yunet(folder, serve(sends(CONTENT, len(CONTENT))))
    assert path == folder / YUNET_FILE
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]
    out = capsys.readouterr().out
    assert out == f"{path}: 102,400 bytes, sha256 checked.\n"  # no progress bar: this is no terminal


def test_a_file_that_is_right_already_is_not_fetched_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / YUNET_FILE).write_bytes(CONTENT)
    download_yunet(tmp_path, "http://127.0.0.1:1/never-asked")
    assert "already there" in capsys.readouterr().out


def test_a_file_that_is_wrong_is_replaced_only_by_the_right_one(
    tmp_path: Path, serve: Callable[[Answer], str]
) -> None:
    old = tmp_path / YUNET_FILE
    old.write_bytes(b"old")
    with pytest.raises(UserError):
        download_yunet(tmp_path, serve(sends(b"wrong", 5)))
    assert old.read_bytes() == b"old"
    download_yunet(tmp_path, serve(sends(CONTENT)))
    assert old.read_bytes() == CONTENT


def test_a_wrong_checksum_says_what_was_found(tmp_path: Path, serve: Callable[[Answer], str]) -> None:
    wrong = CONTENT[:-1] + b"x"
    said = refusal(tmp_path, serve(sends(wrong, len(wrong))))
    assert "102,400 bytes" in said
    assert hashlib.sha256(wrong).hexdigest() in said


def test_a_file_that_is_too_long_is_not_read_to_its_end(
    tmp_path: Path, serve: Callable[[Answer], str]
) -> None:
    said = refusal(tmp_path, serve(sends(CONTENT * 2)))
    assert "or more with" in said


@pytest.mark.parametrize("announced", [len(CONTENT), 10 * len(CONTENT)])
def test_a_download_that_breaks_off_says_how_far_it_got(
    tmp_path: Path, serve: Callable[[Answer], str], announced: int
) -> None:
    said = refusal(tmp_path, serve(sends(CONTENT[:1000], announced)))
    assert "broken off after 1,000 of 102,400 bytes" in said


def test_a_server_that_falls_silent_is_left(
    tmp_path: Path, serve: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.1)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        sends(CONTENT[:1000], len(CONTENT))(handler)
        handler.rfile.read(1)  # says nothing more until the other side has gone

    assert "broken off after 1,000 of 102,400 bytes: timed out" in refusal(tmp_path, serve(answer))


def test_a_refusal_of_the_server_is_named(tmp_path: Path, serve: Callable[[Answer], str]) -> None:
    said = refusal(tmp_path, serve(lambda handler: handler.send_error(404)))
    assert "the server answers 404 Not Found" in said


def test_no_network_is_said(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # not listening: closed to whoever dials in
        said = refusal(tmp_path, f"http://127.0.0.1:{free.getsockname()[1]}/x")
    assert "not reached" in said
    assert "is there a network?" in said


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/hostname", "http://[", "http://x:port/"])
def test_what_is_no_address_is_refused(tmp_path: Path, url: str) -> None:
    assert repr(url) in refusal(tmp_path, url)


def test_a_server_that_is_not_http_is_refused(tmp_path: Path, serve: Callable[[Answer], str]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")

    assert "broken off after 0 of" in refusal(tmp_path, serve(answer))


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path, serve: Callable[[Answer], str]) -> None:
    (tmp_path / "models").write_text("a file where a directory should be")
    with pytest.raises(UserError, match=f"{tmp_path / 'models' / YUNET_FILE} can't be written"):
        download_yunet(tmp_path / "models", serve(sends(CONTENT)))


def test_the_environment_names_a_mirror(
    tmp_path: Path, serve: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUNET_URL", serve(sends(CONTENT)))
    assert download_yunet(tmp_path).read_bytes() == CONTENT


def test_the_pinned_file_is_the_one_that_the_tests_use(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    content = (shared / "models" / YUNET_FILE).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (
        download.YUNET_BYTES,
        download.YUNET_SHA256,
    )
