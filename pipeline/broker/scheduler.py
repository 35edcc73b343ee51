"""Which frame is detected next: round robin by source, live before file, a least share for files."""

from collections import OrderedDict, deque

from pipeline.broker.ledger import Entry
from pipeline.messages import SourceKind


class DetectQueue:
    """The frames that wait for a detector.

    A live source has one slot, where the newest frame takes the place of the one that waited. A file has
    a queue as long as its window. Suspects, over which a worker died, wait apart: they are tried alone.
    """

    def __init__(self, file_share: float) -> None:
        self._file_share = file_share
        self._file_credit = 0.0
        self._queues: dict[SourceKind, OrderedDict[str, deque[Entry]]] = {
            "live": OrderedDict(),
            "file": OrderedDict(),
        }
        self.suspects: deque[Entry] = deque()

    def put_live(self, entry: Entry) -> Entry | None:
        """Put the newest frame of a live source into its slot; return the frame that it replaces."""
        slot = self._queues["live"].setdefault(entry.source, deque())
        replaced = slot.pop() if slot else None
        slot.append(entry)
        return replaced

    def put_file(self, entry: Entry) -> None:
        self._queues["file"].setdefault(entry.source, deque()).append(entry)

    def put_suspect(self, entry: Entry) -> None:
        """One that has killed a worker alone goes first: it is either cleared or given up soon."""
        if entry.deaths_alone:
            self.suspects.appendleft(entry)
        else:
            self.suspects.append(entry)

    def remove(self, entry: Entry) -> None:
        """Forget a frame that has found its outcome while it waited."""
        for queue in [self.suspects, *(q for kind in self._queues.values() for q in kind.values())]:
            if entry in queue:
                queue.remove(entry)

    def live_waiting(self) -> list[Entry]:
        return [slot[0] for slot in self._queues["live"].values() if slot]

    def take(self, *, live: bool, blocked: frozenset[str] = frozenset()) -> Entry | None:
        """The next frame for a worker; `live` says whether it may be one of a live source now.

        `blocked` names the live sources that have enough under way.
        """
        candidate = self._peek("live", blocked) if live else None
        if candidate is None:
            return self._pop("file", frozenset())
        if self._peek("file", frozenset()) is None:
            return self._pop("live", blocked)
        self._file_credit += self._file_share
        if self._file_credit < 1:
            return self._pop("live", blocked)
        self._file_credit -= 1
        return self._pop("file", frozenset())

    def _peek(self, kind: SourceKind, blocked: frozenset[str]) -> str | None:
        return next((name for name, q in self._queues[kind].items() if q and name not in blocked), None)

    def _pop(self, kind: SourceKind, blocked: frozenset[str]) -> Entry | None:
        name = self._peek(kind, blocked)
        if name is None:
            return None
        self._queues[kind].move_to_end(name)  # the source goes to the end of the round
        return self._queues[kind][name].popleft()
