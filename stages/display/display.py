"""The display stage without its sockets: from a delivery to the record, the window and the recording."""

import contextlib
import itertools
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from pipeline.messages import Delivery, Progress
from pipeline.settings import DisplaySettings
from stages.display.draw import draw_faces, mirrored
from stages.display.past import Past
from stages.display.record import FaceRecord, advance, make_record, round_box, round_time, to_json
from stages.display.recording import Recording, segment_paths
from stages.display.results import Results
from stages.display.tracker import Tracker
from stages.display.window import Windows

Image = NDArray[np.uint8]


class Display:
    """All outputs of a run: results, recordings and windows, opened when this is made."""

    def __init__(self, settings: DisplaySettings, sources: list[str], resume: bool) -> None:
        """Open every output that `settings` asks for; `mode` is `window` or else there is none.

        The benchmark's mode `draw` draws as a window would, and shows nothing.
        With `resume`, in a process that replaces another in the same run, results are gone on with and
        recordings continue in new files. Raises UserError, in one line, for what cannot be opened.
        """
        self._mirror = settings.mirror
        self._unseen = settings.mode == "draw"
        self._trackers: defaultdict[str, Tracker] = defaultdict(Tracker)
        self._windows: Windows | None = None
        self._results: Results | None = None
        self._recordings: dict[str, Recording] = {}  # by source; "": of the first one that comes
        self._record, self._resume, self._recorded = settings.record, resume, max(1, len(sources))
        self.progress: dict[str, Progress] = {}
        with contextlib.ExitStack() as opened:  # what is open is closed again if the next cannot be opened
            opened.callback(self.close)
            if settings.mode == "window":
                self._windows = Windows()
            if settings.results:
                self._results = Results(settings.results, self._remember if resume else None)
            if settings.record:
                # Sources captured elsewhere are not known yet: theirs are opened as their frames come.
                paths = segment_paths(settings.record, max(1, len(sources)), resume)
                for source, path in itertools.zip_longest(sources, paths):
                    self._recordings[source or ""] = Recording(path)
            opened.pop_all()
        self.wants_pixels = bool(settings.mode in ("window", "draw") or settings.record)

    def adopt(self, progress: dict[str, Progress]) -> None:
        """Take over what the broker knows to be written, where it is more than what is known here."""
        for source, known in progress.items():
            if known.written > self.progress.get(source, Progress()).written:
                self.progress[source] = known

    def deliver(
        self, delivery: Delivery, probabilities: NDArray[np.float32], image: Image | None, now_ns: int
    ) -> bytes:
        """Show, record and write an outcome; return its record as JSON, without the line's end.

        `probabilities` is (faces, 7) in the order of EMOTIONS; `image` is uint8 BGR (height, width, 3), left
        as it is. The record is written when this returns. An outcome that already was gives b"".
        Raises OutputFailed.
        """
        progress = self.progress.get(delivery.source, Progress())
        if delivery.sequence < progress.written:
            return b""
        boxes = [round_box(face.box_px) for face in delivery.faces]
        tracks: list[int] = []
        if delivery.status == "ok":
            tracks = self._trackers[delivery.source].update(round_time(delivery.time_s), boxes)
        record = make_record(delivery, boxes, tracks, probabilities, now_ns)
        line = to_json(record)
        if image is not None:
            self._picture(delivery, record.faces, image)
        if self._results is not None:  # last, since an outcome is acknowledged once it is written
            self._results.write(record, line)
        self.progress[delivery.source] = advance(progress, record.frame, record.status, delivery.reason)
        return line

    def poll(self) -> str | None:
        """Let the windows act; return "q" when the user wants to quit."""
        return self._windows.poll() if self._windows is not None else None

    def end_source(self, name: str) -> None:
        """Complete the recording of a source that has no more frames; its window stays until the end."""
        recording = self._recordings.pop(name, None)
        if recording is not None:
            recording.close()

    def close(self) -> None:
        """Complete and close all outputs, each of them even if another fails. Raises OutputFailed."""
        with contextlib.ExitStack() as closing:
            for output in (self._windows, self._results, *self._recordings.values()):
                if output is not None:
                    closing.callback(output.close)
            self._windows, self._results = None, None
            self._recordings = {}

    def _remember(self, past: Past) -> None:
        """Take in a record that an earlier process wrote."""
        progress = self.progress.get(past.source, Progress())
        self.progress[past.source] = advance(progress, past.frame, past.status, past.reason)
        if past.status == "ok":
            boxes = [face.box for face in past.faces]
            self._trackers[past.source].restore(past.time_s, boxes, [face.track for face in past.faces])

    def _recording_of(self, source: str) -> Recording | None:
        """The recording of a source; one that was not known at the start gets the next file."""
        if self._record and source not in self._recordings:
            if "" in self._recordings:
                self._recordings[source] = self._recordings.pop("")
            else:
                self._recorded += 1
                path = segment_paths(self._record, self._recorded, self._resume)[-1]
                self._recordings[source] = Recording(path)
        return self._recordings.get(source)

    def _picture(self, delivery: Delivery, faces: list[FaceRecord], image: Image) -> None:
        """Draw the faces where they are wanted: recorded as filmed, shown as in a mirror if asked."""
        recording = self._recording_of(delivery.source)
        drawn: Image | None = None
        if recording is not None or self._unseen or (self._windows is not None and not self._mirror):
            drawn = image.copy()
            draw_faces(drawn, faces)
        if recording is not None and drawn is not None:
            recording.write(drawn, delivery.time_s, delivery.fps)
        if self._windows is None:
            return
        if self._mirror or drawn is None:
            drawn = np.ascontiguousarray(image[:, ::-1])
            draw_faces(drawn, [mirrored(face, drawn.shape[1]) for face in faces])
        self._windows.show(delivery.source, drawn)
