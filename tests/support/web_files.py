"""A web server for the files of a folder: with and without ranges, and one whose lines break."""

import re
import socketserver
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray


class Served:
    """A server on the loopback, for as long as the context lasts."""

    def __init__(
        self,
        handler: type[socketserver.BaseRequestHandler],
        server: type[socketserver.ThreadingTCPServer | ThreadingHTTPServer] = ThreadingHTTPServer,
    ) -> None:
        self._server = server(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{name}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class WebFiles(Served):
    """Use as a context manager. `url(name)` is the address of a file; `answers` take the place of files."""

    def __init__(self, folder: Path, *, ranges: bool = False, breaks_after: int = 0) -> None:
        """breaks_after: bytes after which the first answer of each file breaks off."""
        self.answers: dict[str, bytes] = {}
        self.asked: list[str] = []
        broken: set[str] = set()
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                name = self.path.partition("?")[0].lstrip("/")
                web.asked.append(name)
                path = folder / name
                if name not in web.answers and not path.is_file():
                    self.send_error(404)
                    return
                data = web.answer(name) if name in web.answers else path.read_bytes()
                part = re.fullmatch(r"bytes=(\d+)-\d*", self.headers.get("Range", "")) if ranges else None
                start = int(part[1]) if part else 0
                self.send_response(206 if part else 200)
                self.send_header("Content-Length", str(len(data) - start))
                self.send_header("Connection", "close")  # said, or FFmpeg asks again where nobody listens
                if ranges:
                    self.send_header("Accept-Ranges", "bytes")
                if part:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.end_headers()
                try:
                    if breaks_after and name not in broken and len(data) > breaks_after:
                        broken.add(name)
                        self.wfile.write(data[start : start + breaks_after])
                        self.close_connection = True
                        self.connection.shutdown(2)
                    else:
                        self.wfile.write(data[start:])
                except OSError:
                    self.close_connection = True  # the reader has gone

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(Handler)

    def answer(self, name: str) -> bytes:
        """What is sent for a name in `answers`."""
        return self.answers[name]

    def url(self, name: str) -> str:
        return self.address(name)


class GrowingPlaylist(WebFiles):
    """Serves clip.m3u8 as a camera does: three segments, of which the oldest goes with each look at it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answers["clip.m3u8"] = b""
        self._text = (folder / "clip.m3u8").read_text()
        self._segments = re.findall(r"#EXTINF:.*\n.*\.ts", self._text)
        self.looks = 0

    def answer(self, name: str) -> bytes:
        first = min(self.looks, len(self._segments) - 3)
        self.looks += 1
        shown = "\n".join(self._segments[first : first + 3])
        head = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n"
        return f"{head}{shown}\n".encode()


class ReplayedStream(Served):
    """Gives whoever asks the same pictures, as a stream of JPEGs that ends. Use as a context manager."""

    def __init__(self, images: Sequence[NDArray[np.uint8]]) -> None:
        pictures = [cv2.imencode(".jpg", image)[1].tobytes() for image in images]
        self.asked = 0
        stream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stream.asked += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                for data in pictures:
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(Handler)
        self.url = self.address("recording")


class Unending(Served):
    """Gives whoever asks the same bytes, without their number, and then waits. Use as a context manager."""

    def __init__(self, data: bytes) -> None:
        over = self._over = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(data)
                over.wait(60)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(Handler)
        self.url = self.address("flv?port=1935&app=bcs&user=me&password=sesame")

    def __exit__(self, *error: Any) -> None:
        self._over.set()
        super().__exit__(*error)
