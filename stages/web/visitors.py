"""Visitors who bring their camera: who has which place, and what may come of a camera. Without sockets.

A place is a live source of the run (`browser#1`) with a capture process of its own. One visitor at a time has
it, and sees it; the next one gets it when nothing of the one before is under way any more.
"""

import logging
from asyncio import Event
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from pipeline.wire.messages import SourceReport, StatusReport
from pipeline.wire.page_link import VisitorFrame, Wanted
from stages.image_codec import BadFrame, claimed_size
from stages.web.guard import Allowance

PAGE_CREDITS: Final = 2
"""Pictures that a page may have on their way: one travels while the next one is made."""

PICTURES_A_S: Final = 30.0
"""Of a visitor at the most."""

MAX_JPEG_BYTES: Final = 512 * 1024
MIN_SIDE, MAX_SIDE = 16, 1280  # px, of a visitor's picture

MAX_SCANS: Final = 4
"""Browsers write one. Each scan of a JPEG costs as much as a picture, and a small file may have thousands."""

IDLE_S: Final = 30.0
"""A camera that is asked for pictures and sends none for so long gives its place to others."""

CLEAN_S: Final = 2.5
"""A place is vacant for so long before its next visitor: a picture may be on its way to its capture, and the
track of a face lasts for 2 s, in which the next visitor's would continue it."""

LINES_A_S, LINES_BURST = 0.2, 20.0
"""In the log, of visitors who come and go."""

log = logging.getLogger(__name__)


class BadPicture(Exception):  # noqa: N818  (what a client sent, not a fault of the program)
    """What came is no picture that a page would send; says why. Its sender is dropped."""


class Place:
    """One of the run's places."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.camera: Camera | None = None  # of the visitor who has it
        self.first_frame = 0  # of that visitor: what came before is another's
        self.is_clean = False  # nobody has it, and nothing of the last visitor is under way
        self.is_closed = False  # its source has ended for good
        self.left_s = 0.0  # when the last visitor left it
        self.number = 0  # of the last picture that came for its capture
        self.taken = 0  # of the last one that its capture has taken
        self.is_wanted = False  # whether its capture waits for a picture


class Camera:
    """The camera of one connection, on or off."""

    def __init__(self, changed: Event) -> None:
        """`changed` is set when there is something to tell the page."""
        self.changed = changed
        self.key = ""  # by which a page that comes back is known
        self.is_on = False
        self.place: Place | None = None
        self.trouble = ""  # why its page is to be dropped
        self.idle = False  # it lost its place because it sent nothing
        self.credits = 0  # pictures that its page may still send
        self.next_credit_s = 0.0
        self.heard_s = 0.0
        self.first_number = 0  # of its pictures in its place
        self.newest: VisitorFrame | None = None  # waits for its capture

    def may_ask(self) -> bool:
        """Whether its page may be given one more credit, now or in a moment."""
        return self.place is not None and self.newest is None and self.credits < PAGE_CREDITS

    def ask(self, now_s: float) -> bool:
        """Give its page one more credit, if it is time."""
        if not self.may_ask() or now_s < self.next_credit_s:
            return False
        self.next_credit_s = max(now_s, self.next_credit_s + 1 / PICTURES_A_S)
        self.credits += 1
        return True


class Visitors:
    """The places of a run and those who have them or wait for one."""

    def __init__(self, sources: Sequence[str], send: Callable[[str, int, bytes], Awaitable[None]]) -> None:
        """`send` gives a source's capture a picture with its number."""
        self.places = {source: Place(source) for source in sources}
        self._send = send
        self._waiting: list[Camera] = []
        self._lines = Allowance(LINES_A_S, LINES_BURST)

    def _say(self, line: str, place: Place, now_s: float) -> None:
        if self._lines.take("", now_s):
            log.info(line, place.source)

    @property
    def open_places(self) -> list[Place]:
        return [place for place in self.places.values() if not place.is_closed]

    def state(self, camera: Camera) -> str:
        """What a page is told of its camera: off, idle, wait, full or the name of its source."""
        if camera.place is not None:
            return camera.place.source
        if not camera.is_on:
            return "idle" if camera.idle else "off"
        return "full" if all(place.camera is not None for place in self.open_places) else "wait"

    def may_see(self, source: str, camera: Camera | None, frame: int) -> bool:
        """Whether a page may see a frame: of a visitor's camera only the own ones."""
        place = self.places.get(source)
        if place is None:
            return True
        return camera is not None and place.camera is camera and frame >= place.first_frame

    # ------------------------------------------------------------------------------------------ coming, going

    def enter(self, camera: Camera, key: str, now_s: float) -> None:
        """A page turns its camera on. One that is back with its key has the place of its lost connection."""
        if camera.is_on:
            return
        camera.is_on, camera.idle, camera.key = True, False, key
        lost = next((p.camera for p in self.places.values() if p.camera and p.camera.key == key), None)
        if key and lost is not None and lost.place is not None:
            place = lost.place
            lost.is_on, lost.place, lost.newest = False, None, None
            self._sit(camera, place, now_s)
            return
        self._waiting.append(camera)
        self._seat_waiting(now_s)
        camera.changed.set()

    def leave(self, camera: Camera, now_s: float) -> None:
        """A page turns its camera off, or is gone."""
        camera.is_on = False
        if camera in self._waiting:
            self._waiting.remove(camera)
        place = camera.place
        if place is not None:
            camera.place, camera.newest = None, None
            place.camera, place.is_clean, place.left_s = None, False, now_s
            self._say("%s: the visitor has left", place, now_s)
        self._tell_waiting()

    def _sit(self, camera: Camera, place: Place, now_s: float) -> None:
        camera.place, place.camera = place, camera
        camera.heard_s, camera.first_number = now_s, place.number + 1
        camera.changed.set()

    def _seat_waiting(self, now_s: float) -> None:
        """Give clean places to those who have waited longest; of several the one that was left first."""
        free = sorted(
            (p for p in self.open_places if p.is_clean and p.camera is None), key=lambda p: p.left_s
        )
        for place in free[: len(self._waiting)]:
            place.is_clean = False
            self._sit(self._waiting.pop(0), place, now_s)
            self._say("%s: a visitor is here", place, now_s)
        if free:
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        for camera in self._waiting:
            camera.changed.set()

    def update(self, report: StatusReport, now_s: float) -> None:
        """Take in a report of the broker: places become clean, and cameras that send nothing lose theirs.

        When the run ends nothing changes any more.
        """
        if report.stopping or report.finished:
            return
        for source in report.sources:
            place = self.places.get(source.name)
            if place is not None:
                self._update_place(place, source, now_s)
        for place in self.places.values():
            camera = place.camera
            if camera is not None and camera.credits and now_s - camera.heard_s > IDLE_S:
                camera.idle = True
                self.leave(camera, now_s)
                camera.changed.set()
        self._seat_waiting(now_s)

    def _update_place(self, place: Place, source: SourceReport, now_s: float) -> None:
        camera = place.camera
        place.is_closed = source.ended
        if source.ended and camera is not None:  # its capture could not be kept alive
            self.leave(camera, now_s)
            camera.is_on = True
            self._waiting.append(camera)
            camera.changed.set()
        # A capture that has just started has taken none, and has none.
        arrived = place.is_wanted and place.taken in (0, place.number)
        if camera is None and arrived and not source.in_flight and now_s - place.left_s >= CLEAN_S:
            place.is_clean, place.first_frame = True, source.captured

    # ------------------------------------------------------------------------------------------ pictures

    async def put(self, camera: Camera, jpeg: bytes, now_s: float) -> None:
        """A picture has come: it goes to its capture, or takes the place of the one that waits for that.

        Raises BadPicture for one that was not asked for, or is none.
        """
        if camera.credits <= 0:
            raise BadPicture("a picture that was not asked for")
        camera.credits -= 1
        camera.heard_s = now_s
        check_picture(jpeg)
        place = camera.place
        if place is None:  # it was asked for while there was one
            return
        place.number += 1
        camera.newest = VisitorFrame(place.number, jpeg)
        await self._pass_on(place)

    async def want(self, wanted: Wanted) -> None:
        """A capture wants a picture, the next one or its first."""
        place = self.places.get(wanted.source)
        if place is None:
            return
        place.number = max(place.number, wanted.number)  # this process may be newer than the capture
        place.taken, place.is_wanted = wanted.number, True
        camera = place.camera
        if camera is not None and wanted.trouble and wanted.number >= camera.first_number:
            camera.trouble = wanted.trouble
            camera.changed.set()
        await self._pass_on(place)

    async def _pass_on(self, place: Place) -> None:
        camera = place.camera
        if camera is not None and camera.newest is not None and place.is_wanted:
            picture, camera.newest, place.is_wanted = camera.newest, None, False
            await self._send(place.source, picture.number, picture.jpeg)
        if camera is not None:
            camera.changed.set()


def check_picture(jpeg: bytes) -> None:
    """Look at a JPEG without decoding it. Raises BadPicture for what no page sends."""
    if len(jpeg) > MAX_JPEG_BYTES:
        raise BadPicture(f"a picture of {len(jpeg)} bytes; expected at most {MAX_JPEG_BYTES}")
    try:
        width, height = claimed_size(jpeg)
    except BadFrame as error:
        raise BadPicture(str(error)) from error
    if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
        raise BadPicture(f"a picture of {width}×{height} px; expected {MIN_SIDE} to {MAX_SIDE} a side")
    if jpeg.count(b"\xff\xda") > MAX_SCANS:
        raise BadPicture(f"a JPEG of more than {MAX_SCANS} scans")
