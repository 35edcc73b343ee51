"""The display stage without its sockets: from a delivery to the record, the window and the recording."""

import contextlib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.wire.messages import Delivery, Progress
from stages.display.output_file import Patience
from stages.display.record import FaceRecord, advance, make_record, round_box, round_time, to_json
from stages.display.resume import Checkpoint, Past, SourceState
from stages.display.sinks.results import Results
from stages.display.spec import DisplaySettings
from stages.display.tracker import Tracker

if TYPE_CHECKING:
    from stages.display.sinks.video import Recordings
    from stages.display.sinks.window import Windows

Image = NDArray[np.uint8]


CHECKPOINT_EVERY: Final = 1000
"""Records after which a checkpoint is made: a replacement reads that many back in some 10 ms."""

CHECKPOINT_UNWRITTEN: Final = 25
"""As above where there are no results to read them back from: what came since is not known then."""


SKIPPED_TRACKS: Final = 1000


class Display:
    """All outputs of a run: results, recordings and windows, opened when this is made."""

    def __init__(self, settings: DisplaySettings, sources: list[str], checkpoint: Path | None) -> None:
        """Open every output that `settings` asks for; `mode` is `window` or else there is none.

        The benchmark's mode `draw` draws as a window would, and shows nothing.
        Where `checkpoint` is there, this process replaces another in the same run: results are gone on with
        and recordings continue in new files. None: nothing is kept for a replacement. Raises UserError, in
        one line, for what cannot be opened.
        """
        self._mirror = settings.mirror
        self._unseen = settings.mode == "draw"
        self._checkpoint = Checkpoint(checkpoint)
        state = self._checkpoint.state
        # Without results nobody knows which numbers came after the checkpoint: none is given twice.
        skip = 0 if settings.results else SKIPPED_TRACKS
        self._trackers = defaultdict(
            Tracker, {name: Tracker(source.tracker, skip) for name, source in state.sources.items()}
        )
        self.progress = {name: source.progress for name, source in state.sources.items()}
        self.patience = Patience()
        self._begun = state.begun
        self._since = 0  # the last checkpoint, records
        self._every = CHECKPOINT_EVERY if settings.results else CHECKPOINT_UNWRITTEN
        self._windows: Windows | None = None
        self._results: Results | None = None
        self._recordings: Recordings | None = None
        with contextlib.ExitStack() as opened:  # what is open is closed again if the next cannot be opened
            opened.callback(self.close)
            if settings.mode == "window":
                self._windows = _open_windows()
            if settings.results:
                self._results = Results(settings.results, self.patience, state.results, self._remember)
            if settings.record:
                self._recordings = _open_recordings(
                    settings.record,
                    sources,
                    state.recordings,
                    self.patience,
                    lambda begun: self._checkpoint.begin(recordings=begun),
                )
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
        self.begin()
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
        self._since += 1
        if self._since >= self._every:
            self._keep()
        return line

    def begin(self) -> None:
        """From the first outcome on the results are this run's: what an earlier one left is gone.

        Raises OutputFailed.
        """
        if not self._begun:
            self._begun = True
            self._checkpoint.begin(results=self._results.begin() if self._results is not None else None)

    def complete(self) -> None:
        """Settle what a run that is over leaves, even one without a frame. Raises OutputFailed."""
        self.begin()
        self.check()
        if self._recordings is not None:
            self._recordings.complete()
        self.close()

    def check(self) -> None:
        """Raise OutputFailed if a file is no longer where it was: what is written would be lost."""
        for output in (self._results, self._recordings):
            if output is not None:
                output.check()

    def poll(self) -> str | None:
        """Let the windows act; return "q" when the user wants to quit."""
        return self._windows.poll() if self._windows is not None else None

    def end_source(self, name: str) -> None:
        """Complete the recording of a source that has no more frames; its window stays until the end."""
        if self._recordings is not None:
            self._recordings.end_source(name)

    def close(self) -> None:
        """Complete and close all outputs, each of them even if another fails. Raises OutputFailed."""
        with contextlib.ExitStack() as closing:
            for output in (self._windows, self._results, self._recordings):
                if output is not None:
                    closing.callback(output.close)
            self._windows, self._results, self._recordings = None, None, None

    def _keep(self) -> None:
        """Make a checkpoint."""
        self._since = 0
        sources = {
            name: SourceState(written, self._trackers[name].state) for name, written in self.progress.items()
        }
        self._checkpoint.keep(self._results.mark if self._results is not None else None, sources)

    def _remember(self, past: Past) -> None:
        """Take in a record that an earlier process wrote after its last checkpoint."""
        self._since += 1
        progress = self.progress.get(past.source, Progress())
        self.progress[past.source] = advance(progress, past.frame, past.status, past.reason)
        if past.status == "ok":
            boxes = [face.box for face in past.faces]
            self._trackers[past.source].restore(past.time_s, boxes, [face.track for face in past.faces])

    def _picture(self, delivery: Delivery, faces: list[FaceRecord], image: Image) -> None:
        """Draw the faces where they are wanted: recorded as filmed, shown as in a mirror if asked."""
        from stages.display.annotate import draw_faces, mirrored

        drawn: Image | None = None
        if self._recordings is not None or self._unseen or (self._windows is not None and not self._mirror):
            drawn = image.copy()
            draw_faces(drawn, faces)
        if self._recordings is not None and drawn is not None:
            self._recordings.write(delivery.source, drawn, delivery.time_s, delivery.fps)
        if self._windows is None:
            return
        if self._mirror or drawn is None:
            drawn = np.ascontiguousarray(image[:, ::-1])
            draw_faces(drawn, [mirrored(face, drawn.shape[1]) for face in faces])
        self._windows.show(delivery.source, drawn)


# Imported when they are asked for: OpenCV and PyAV take memory, and half a second of the start.


def _open_windows() -> "Windows":
    from stages.display.sinks.window import Windows

    return Windows()


def _open_recordings(*arguments: Any) -> "Recordings":
    from stages.display.sinks.video import Recordings

    return Recordings(*arguments)
