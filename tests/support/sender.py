"""Sends a clip again and again until it is killed: python -m tests.support.sender ADDRESS FORMAT

It is a process of its own, since PyAV holds the interpreter while it waits for the other end.
"""

import sys
import time
from typing import Any

import av

from tests.support.media import noise

FPS = 25
SIZE = 64, 48


def send(address: str, form: str) -> None:
    """Send until the other end goes. Raises av.FFmpegError."""
    with av.open(address, "w", format=form) as container:
        stream: Any = container.add_stream("libx264", rate=FPS, options={"tune": "zerolatency", "g": "10"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        while True:
            for number in range(FPS):
                picture = av.VideoFrame.from_ndarray(noise(number, *SIZE), "bgr24")
                container.mux(stream.encode(picture))
                time.sleep(1 / FPS)  # as a camera does


if __name__ == "__main__":
    while True:
        try:
            send(*sys.argv[1:])
        except av.FFmpegError:  # nobody is there yet, or any more
            time.sleep(0.1)
