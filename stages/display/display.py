"""The display stage without its sockets: makes the record of each delivery and gives it to the sinks."""

import contextlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Final

from pipeline.wire.messages import LABEL_LENGTH, MAX_IN_VIEW, Committed, Delivery, InView
from stages.display.checkpoint import Checkpoint, SourceState
from stages.display.output_file import Patience
from stages.display.record import (
    FaceRecord,
    Record,
    advance,
    make_record,
    round_box,
    round_rows,
    round_time,
    short_label,
    to_json,
)
from stages.display.sinks.sink import Image, Opening, Outcome, open_sinks
from stages.display.spec import DisplaySettings
from stages.display.tracks import Smoother, Tracker
from stages.faces import Faces

NAMED_FROM: Final = 0.005
"""Share of the faces from which an emotion is named."""


class Display:
    """All outputs of a run: results, recordings and windows, opened when this is made."""

    def __init__(
        self, settings: DisplaySettings, sources: list[str], checkpoint: Path | None, page: str = ""
    ) -> None:
        """Open the outputs that `settings` asks for; `page` is the address of the web page's process.

        If the file `checkpoint` exists, this process replaces another one of the run: it continues its
        results, and its recordings in new files. None: nothing is kept for a replacement. Raises UserError
        for what can't be opened."""
        self.patience = Patience()
        self._checkpoint = Checkpoint(checkpoint, self.patience, Path(settings.results))
        state = self._checkpoint.state
        self._trackers = defaultdict(
            Tracker, {name: Tracker(source.tracker) for name, source in state.sources.items()}
        )
        smoothing = settings.smoothing_s, max(0.0, settings.uncertain_below)
        self._smoothers = defaultdict(
            lambda: Smoother(*smoothing),
            {name: Smoother(*smoothing, source.smoothed) for name, source in state.sources.items()},
        )
        self.committed = {name: source.committed for name, source in state.sources.items()}
        self.tally = Tally()  # of this process alone
        self._begun = state.begun
        self._sinks = open_sinks(Opening(settings, sources, self._checkpoint, self.patience, page))
        self.wants_pixels = any(sink.wants_pixels for sink in self._sinks)
        self.watched = any(sink.watched for sink in self._sinks)

    def adopt(self, committed: dict[str, Committed]) -> None:
        """Take over what the broker knows to be written, where that is more than is known here."""
        for source, known in committed.items():
            if known.offset > self.committed.get(source, Committed()).offset:
                self.committed[source] = known

    def deliver(self, delivery: Delivery, faces: Faces, image: Image | None, now_ns: int) -> bytes:
        """Show, record and write an outcome; return its record as JSON, without the line's end.

        `image` is uint8 BGR (height, width, 3), and not changed. All sinks have written the record when this
        returns. Returns b"" for an outcome that was written before. Raises OutputFailed.
        """
        committed = self.committed.get(delivery.source, Committed())
        if delivery.sequence < committed.offset:
            return b""
        self.begin()
        record = self._record(delivery, faces, now_ns)
        line = to_json(record)
        outcome = Outcome(delivery, record, line, image)
        newer = advance(committed, record.frame, record.status, delivery.reason)
        for sink in self._sinks:
            sink.announce(outcome)
        # A replacement sees by a results file whether its last record was written; without one the checkpoint
        # must not be ahead of the outputs.
        ahead = self._checkpoint.results is not None
        if ahead:
            self._keep(delivery.source, newer)
        for sink in self._sinks:
            sink.write(outcome)
        if not ahead:
            self._keep(delivery.source, newer)
        self.committed[delivery.source] = newer
        self.tally.add(record)
        return line

    def _record(self, delivery: Delivery, faces: Faces, now_ns: int) -> Record:
        """Return the record of an outcome, its faces tracked and smoothed."""
        if delivery.status != "ok":
            return make_record(delivery, [], [], [], [], now_ns)
        boxes = [round_box(box) for box in faces.boxes]
        rows = round_rows(faces.probabilities)
        time_s = round_time(delivery.time_s)
        tracks = self._trackers[delivery.source].update(time_s, boxes)
        smoother = self._smoothers[delivery.source]
        smoothed = smoother.update(time_s, tracks, rows, alone=bool(delivery.file))
        return make_record(delivery, boxes, tracks, rows, smoothed, now_ns, faces.extras)

    def begin(self) -> None:
        """Let the sinks discard what an earlier run left, before the first outcome. Raises OutputFailed."""
        if not self._begun:
            self._begun = True
            for sink in self._sinks:
                sink.begin()
            self._checkpoint.begin()

    def complete(self) -> None:
        """Complete all outputs at the end of a run, even of one without a frame. Raises OutputFailed."""
        self.begin()
        self.check()
        for sink in self._sinks:
            sink.complete()
        self.close()

    def check(self) -> None:
        """Raise OutputFailed if an output file was removed or replaced: what is written would be lost."""
        for sink in self._sinks:
            sink.check()

    def poll(self) -> str | None:
        """Let the window handle its events; return why the user wants the run to end, if so."""
        return next((wish for sink in self._sinks if (wish := sink.poll()) is not None), None)

    def end_source(self, name: str) -> None:
        """Complete the recording of a source that has no more frames; its window stays until the end."""
        for sink in self._sinks:
            sink.end_source(name)

    def close(self) -> None:
        """Complete and close every output, even if one of them fails. Raises OutputFailed."""
        with contextlib.ExitStack() as closing:
            for sink in self._sinks:
                closing.callback(sink.close)
            self._sinks = []

    def _keep(self, source: str, committed: Committed) -> None:
        """Make a checkpoint. Raises OutputFailed."""
        state = SourceState(committed, self._trackers[source].state, self._smoothers[source].state)
        self._checkpoint.keep(source, state)


class Tally:
    """What a run finds, as it is shown: who is in view, and at its end one line of all."""

    def __init__(self) -> None:
        self._newest: dict[str, Record] = {}
        self._frames = self._without = 0
        self._emotions: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        """Take in a record."""
        if record.status == "ok":
            self._newest[record.source] = record
            self._frames += 1
            self._without += not record.faces
            shown = (face.smoothed for face in record.faces)
            self._emotions.update("uncertain" if s.uncertain else s.emotion for s in shown)

    def in_view(self, source: str) -> tuple[list[InView], int]:
        """Return whom the newest frame of a source shows, by track, and how many are left out."""
        record = self._newest.get(source)
        faces = sorted(record.faces, key=lambda face: face.track) if record else []
        shown = [self._seen(face) for face in faces[:MAX_IN_VIEW]]
        return shown, len(faces) - len(shown)

    def _seen(self, face: FaceRecord) -> InView:
        confidence = None if face.smoothed.uncertain else face.smoothed.confidence
        return InView(face.track, short_label(face)[:LABEL_LENGTH], confidence)

    def __str__(self) -> str:
        faces, emotions = self._emotions.total(), self._emotions.most_common()
        shares = ", ".join(f"{name} {n / faces:.0%}" for name, n in emotions if n / faces >= NAMED_FROM)
        found = f"faces found {faces:,} in {self._frames:,} frames; frames without a face {self._without:,}"
        return f"{found}; {shares}" if shares else found

    def __bool__(self) -> bool:
        return self._frames > 0
