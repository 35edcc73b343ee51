"""A live source: an MJPEG stream that the test serves."""

import re
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

from pipeline.sources import SourceSpec
from stages.capture.demo import DemoReader
from tests.whole.conftest import Start
from tests.whole.runs import read_jsonl, video_facts

FPS = 25


@pytest.fixture
def stream() -> Iterator[str]:
    """The address of a camera in the network, which shows the demo again and again."""
    reader = DemoReader(SourceSpec("demo:1", "demo", "demo"))
    pictures = []
    for _ in range(25):
        picture = reader.read()
        assert picture is not None and picture.image is not None
        pictures.append(cv2.imencode(".jpg", cv2.resize(picture.image, (480, 270)))[1].tobytes())
    over = threading.Event()

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            number = 0
            try:
                while not over.wait(1 / FPS):
                    data = pictures[number % len(pictures)]
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")
                    number += 1
            except OSError:
                pass  # the reader has gone

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://user:secret@127.0.0.1:{server.server_address[1]}/video?token=secret"
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.long
def test_a_stream(start: Start, quick: list[str], stream: str, tmp_path: Path) -> None:
    """Every frame of it has an outcome, dropped ones too; nothing tells its password."""
    results, video = tmp_path / "r.jsonl", tmp_path / "v.mkv"
    run = start(*quick, "--source", stream, "--results", results, "--record", video)
    run.until_records(results, 60)
    run.signal(signal.SIGINT)
    done = run.end()
    assert done.status == 130
    records = read_jsonl(results)
    assert [record["frame"] for record in records] == list(range(len(records)))
    first = done.stdout.splitlines()[0]
    found = re.search(r"captured (\d+) = ok (\d+) \+ dropped (\d+).* \+ failed (\d+)$", first)
    assert found
    captured, ok, dropped, failed = map(int, found.groups())
    assert captured == ok + dropped + failed == len(records)
    assert ok == sum(record["status"] == "ok" for record in records) > 0
    assert video_facts(video) == (ok, 480, 270)
    said = "\n".join([*done.stderr, done.stdout, results.read_text()])
    assert "secret" not in said
