"""How crops are gathered into batches."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.ledger import PendingFrame, SourceLedger
from pipeline.broker.queues import Batcher
from pipeline.wire.messages import CROP_BYTES
from tests.support.broker_world import make_faces, make_frame, make_source, pixels

LEDGER = SourceLedger(make_source(), keep_pixels=False)


def entry_with(faces: int, sequence: int = 0) -> PendingFrame:
    """An entry whose crops can be told apart: face n is filled with n."""
    frame = make_frame(sequence)
    entry = PendingFrame(frame, 0, pixels(frame), phase="detecting")
    LEDGER.detected(entry, make_faces(faces), b"".join(bytes([n % 256]) * CROP_BYTES for n in range(faces)))
    return entry


@given(st.lists(st.integers(1, 30), max_size=12), st.integers(1, 16))
def test_every_crop_goes_out_once_and_in_order(faces: list[int], max_batch: int) -> None:
    batcher = Batcher(max_batch, max_delay_ns=0)
    for sequence, count in enumerate(faces):
        batcher.put(entry_with(count, sequence), now_ns=0)
    seen: list[tuple[int, int]] = []
    while batch := batcher.take(now_ns=0):
        assert 1 <= sum(piece.count for piece in batch) <= max_batch
        for piece in batch:
            first_of_each = bytes(piece.crops[::CROP_BYTES])
            assert first_of_each == bytes(range(piece.start, piece.start + piece.count))
            seen += [(piece.entry.sequence, n) for n in range(piece.start, piece.start + piece.count)]
    assert seen == [(sequence, n) for sequence, count in enumerate(faces) for n in range(count)]


def test_a_delay_waits_for_company_until_it_is_over() -> None:
    batcher = Batcher(max_batch=8, max_delay_ns=100)
    batcher.put(entry_with(3), now_ns=1000)
    assert batcher.take(now_ns=1050) == []
    assert batcher.due_ns() == 1100
    assert [piece.count for piece in batcher.take(now_ns=1100)] == [3]


def test_a_full_batch_does_not_wait() -> None:
    batcher = Batcher(max_batch=8, max_delay_ns=100)
    batcher.put(entry_with(9), now_ns=1000)
    assert [piece.count for piece in batcher.take(now_ns=1000)] == [8]


def test_what_a_dead_worker_held_goes_alone() -> None:
    batcher = Batcher(max_batch=8, max_delay_ns=0)
    batcher.put(entry_with(2, 0), now_ns=0)
    (piece,) = batcher.take(now_ns=0)
    batcher.put(entry_with(1, 1), now_ns=0)
    batcher.put_back(piece)
    assert batcher.take_quarantined() is piece
    assert batcher.take_quarantined() is None
    assert [p.entry.sequence for p in batcher.take(now_ns=0)] == [1]
