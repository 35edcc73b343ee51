"""A camera in the network: an MJPEG stream of the demo, served by the test itself."""

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import cv2

from pipeline.config.sources import SourceSpec
from stages.capture.sources.demo import DemoReader

PICTURES = 25
"""As many are made unless more are asked for; they are shown again and again."""


class MjpegCamera:
    """Use as a context manager. `url` holds a password, which nothing may ever show."""

    def __init__(
        self,
        fps: float = 25,
        faces: int = 1,
        size: tuple[int, int] = (480, 270),
        count: int = PICTURES,
        host: str = "127.0.0.1",
    ) -> None:
        reader = DemoReader(SourceSpec(f"demo:{faces}", "demo", "demo"))
        pictures = []
        for _ in range(count):
            picture = reader.read()
            assert picture is not None and picture.image is not None
            pictures.append(cv2.imencode(".jpg", cv2.resize(picture.image, size))[1].tobytes())
        over = self._over = threading.Event()
        camera = self
        self.served = 0  # pictures, to all readers
        self.readers = 0  # that are there now
        self.fps = fps

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                due_s = time.monotonic()
                camera.readers += 1
                try:
                    while not over.wait(max(0.0, due_s - time.monotonic())):
                        data = pictures[camera.served % len(pictures)]
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                        self.wfile.write(head.encode() + data + b"\r\n")
                        camera.served += 1
                        due_s = max(due_s + 1 / camera.fps, time.monotonic() - 1)  # after a stall no flood
                except OSError:
                    pass  # the reader has gone
                finally:
                    camera.readers -= 1

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://user:secret@{host}:{self._server.server_address[1]}/video?token=secret"

    def __enter__(self) -> "MjpegCamera":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


if __name__ == "__main__":  # in a namespace: HOST FPS; each line of standard input is another rate
    with MjpegCamera(float(sys.argv[2]), host=sys.argv[1]) as served:
        print(served.url, flush=True)
        for line in sys.stdin:
            served.fps = float(line)
