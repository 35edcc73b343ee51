"""Which frame is detected next."""

from collections import Counter

from pipeline.broker.ledger import PendingFrame
from pipeline.broker.queues import FrameQueue
from tests.support.broker_world import make_frame


def entry(source: str, sequence: int, received_ns: int = 0) -> PendingFrame:
    return PendingFrame(make_frame(sequence, source), received_ns)


def test_sources_take_turns() -> None:
    queue = FrameQueue(file_share=0.2)
    for sequence in range(3):
        for source in "abc":
            queue.put_file(entry(source, sequence))
    taken = [queue.take(live=True) for _ in range(9)]
    assert [(e.source, e.sequence) for e in taken if e] == [(s, n) for n in range(3) for s in "abc"]
    assert queue.take(live=True) is None


def test_the_newest_live_frame_replaces_the_one_in_the_mailbox() -> None:
    queue = FrameQueue(file_share=0.2)
    first, second = entry("cam", 0), entry("cam", 1)
    assert queue.put_live(first) is None
    assert queue.put_live(second) is first
    assert queue.take(live=True) is second


def test_live_goes_first_and_files_keep_their_least_share() -> None:
    queue = FrameQueue(file_share=0.2)
    counts: Counter[str] = Counter()
    for sequence in range(100):
        queue.put_live(entry("cam", sequence))
        queue.put_file(entry("clip", sequence))
        taken = queue.take(live=True)
        assert taken is not None
        counts[taken.source] += 1
    assert counts["clip"] == 20


def test_a_blocked_live_source_waits_and_a_file_goes() -> None:
    queue = FrameQueue(file_share=0.0)
    queue.put_live(entry("cam", 0))
    queue.put_file(entry("clip", 0))
    taken = queue.take(live=True, blocked=frozenset({"cam"}))
    assert taken is not None
    assert taken.source == "clip"
    assert queue.take(live=True, blocked=frozenset({"cam"})) is None


def test_a_removed_frame_is_not_taken() -> None:
    queue = FrameQueue(file_share=0.2)
    frame = entry("clip", 0)
    queue.put_file(frame)
    queue.remove(frame)
    assert queue.take(live=True) is None


def test_a_live_source_waits_although_its_frame_is_new() -> None:
    queue = FrameQueue(file_share=0.2)
    assert queue.waiting(50) == (0, 0)
    queue.put_live(entry("cam", 0, received_ns=100))
    queue.put_live(entry("cam", 1, received_ns=140))
    queue.put_file(entry("clip", 0, received_ns=120))
    assert queue.waiting(200) == (2, 100)
    queue.take(live=True)
    assert queue.waiting(200) == (1, 80)
    queue.put_live(entry("cam", 2, received_ns=190))
    assert queue.waiting(200) == (2, 80)
