"""A live source made of a list of frames."""

from typing import Any

from pipeline.wire.messages import SourceInfo
from stages.capture.live_feed import LiveFrame
from stages.worker import clock_ns

INFO = SourceInfo("clip", "live", 4, 2, 25)


class ListSource:
    """Stands in for `LiveReader`: gives one thing at each look; a list is what came between two looks."""

    def __init__(self, given: list[Any]) -> None:
        self.left = list(given)
        self.stopped = False

    def take(self, timeout_s: float) -> list[LiveFrame]:
        given = self.left.pop(0) if self.left else []
        if isinstance(given, Exception):
            raise given
        came = given if isinstance(given, list) else [given]
        return [
            one._replace(captured_ns=clock_ns()) if isinstance(one, LiveFrame) else LiveFrame(clock_ns(), one)
            for one in came
        ]

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> bool:
        self.stopped = True
        return True


def never() -> ListSource:
    raise AssertionError("it is not to be opened again")
