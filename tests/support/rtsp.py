"""A real RTSP server, in a process of the system's Python, which has GStreamer."""

import json
import subprocess
from pathlib import Path

import pytest

PYTHON = Path("/usr/bin/python3")
SERVER = Path(__file__).with_name("rtsp_server.py")
MISSING = 77  # the server's exit status where a part of it is not installed
SECRETS = ("sesame", "s3cret")


class RtspServer:
    """A server that keeps its port from one start to the next."""

    def __init__(self, method: str = "digest", *, udp: bool = False) -> None:
        """method: of asking for the password, basic or digest. udp: pictures go over udp alone.

        Skips the test where the system has no such server.
        """
        if not PYTHON.exists():
            pytest.skip(f"no RTSP server here: no {PYTHON}")
        password = f"{SECRETS[1]}@/?"
        self.asked = {"port": 0, "user": SECRETS[0], "password": password, "method": method, "udp": udp}
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [PYTHON, SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        with self.process.stdin as stdin:
            json.dump(self.asked, stdin)
        said = self.process.stdout.readline().strip()
        if not said.isdigit():
            status = self.process.wait()
            self.process.stdout.close()
            if status == MISSING:
                pytest.skip(f"no RTSP server here: {said} (.ci/run names the packages)")
            raise AssertionError(f"the RTSP server ended with {status}: {said}")
        self.asked["port"] = int(said)

    @property
    def url(self) -> str:
        return f"rtsp://{SECRETS[0]}:{SECRETS[1]}%40%2F%3F@127.0.0.1:{self.asked['port']}/live"

    @property
    def name(self) -> str:
        return f"rtsp://127.0.0.1:{self.asked['port']}/live"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
