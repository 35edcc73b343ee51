"""How items are gathered into batches."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.ledger import PendingFrame
from pipeline.broker.queues import ItemQueue
from pipeline.config.stage import Step
from tests.support.broker_world import make_frame, pixels


def queue_of(max_batch: int, max_delay_ns: int = 0) -> ItemQueue:
    return ItemQueue(
        Step("classify", [], takes="crops", max_batch=max_batch, max_delay_ms=max_delay_ns / 1e6)
    )


def entry_with(items: int, sequence: int = 0) -> PendingFrame:
    frame = make_frame(sequence)
    return PendingFrame(frame, 0, pixels(frame), phase="working", items=items)


@given(st.lists(st.integers(1, 30), max_size=12), st.integers(1, 16))
def test_every_item_goes_out_once_and_in_order(faces: list[int], max_batch: int) -> None:
    queue = queue_of(max_batch)
    for sequence, count in enumerate(faces):
        queue.put(entry_with(count, sequence), now_ns=0)
    seen: list[tuple[int, int]] = []
    while batch := queue.take(now_ns=0):
        assert 1 <= sum(piece.count for piece in batch) <= max_batch
        for piece in batch:
            seen += [(piece.frame.sequence, n) for n in range(piece.start, piece.start + piece.count)]
    assert seen == [(sequence, n) for sequence, count in enumerate(faces) for n in range(count)]


def test_a_delay_waits_for_company_until_it_is_over() -> None:
    queue = queue_of(8, 100)
    queue.put(entry_with(3), now_ns=1000)
    assert queue.take(now_ns=1050) == []
    assert queue.due_ns() == 1100
    assert [piece.count for piece in queue.take(now_ns=1100)] == [3]


def test_a_full_batch_does_not_wait() -> None:
    queue = queue_of(8, 100)
    queue.put(entry_with(9), now_ns=1000)
    assert [piece.count for piece in queue.take(now_ns=1000)] == [8]


def test_what_a_dead_worker_held_goes_alone() -> None:
    queue = queue_of(8, 0)
    queue.put(entry_with(2, 0), now_ns=0)
    (piece,) = queue.take(now_ns=0)
    queue.put(entry_with(1, 1), now_ns=0)
    queue.put_back(piece)
    assert list(queue.quarantined) == [piece]
    assert [p.frame.sequence for p in queue.take(now_ns=0)] == [1]
