"""Feeds that write frames into shared memory: when the memory of a frame may be used again."""

from pathlib import Path

from pipeline.wire.messages import Accept, Frame, RequestHello, SourceInfo
from stages.capture.feed import FileFeed
from stages.capture.live_feed import LiveFeed
from stages.image_codec import FrameWriter, ImageReader
from tests.support.feed_conversation import FakeSession, accept, grant, options, turn
from tests.support.live_source import ListSource, never
from tests.support.media import ListReader, pictures


def make_file(folder: Path, count: int = 20) -> tuple[FileFeed, FakeSession]:
    writer = FrameWriter(folder, "capture-1")
    return FileFeed(ListReader(pictures(count)), options(), 1000, writer), FakeSession()


def make_live(folder: Path) -> tuple[LiveFeed, FakeSession]:
    info, source = SourceInfo("clip", "live", 4, 2, 25), ListSource(pictures(100))
    return LiveFeed(
        source, info, never, options("live"), 1000, FrameWriter(folder, "capture-1")
    ), FakeSession()


def test_shared_frames_are_sent_by_name(tmp_path: Path) -> None:
    feed, session = make_file(tmp_path)
    heard = turn(feed, session, accept(), grant(3, encoding="shared"), times=5)
    reader = ImageReader(1000, str(tmp_path))
    assert [frame.encoding for frame in heard] == ["shared"] * 3
    for number, (frame, name) in enumerate(zip(heard, session.pixels, strict=True)):
        assert reader.image(name, "shared", frame.shape).tobytes() == bytes([number]) * 24


def test_memory_of_a_written_frame_is_used_again(tmp_path: Path) -> None:
    feed, session = make_file(tmp_path)
    turn(feed, session, accept(), grant(3, encoding="shared"), times=5)
    turn(feed, session, grant(2, written=2, encoding="shared"), times=5)
    assert sorted(session.pixels[3:]) == sorted(session.pixels[:2])
    assert len(list(tmp_path.iterdir())) == 1


def test_frames_are_sent_raw_where_memory_is_full(tmp_path: Path) -> None:
    feed, session = make_file(tmp_path / "gone")  # no file can be made there
    (frame,) = turn(feed, session, accept(), grant(1, encoding="shared"), times=2)
    assert isinstance(frame, Frame) and frame.shape and frame.encoding == "raw"
    assert session.pixels == [bytes(24)]


def test_new_broker_gets_the_same_shared_frames_again(tmp_path: Path) -> None:
    feed, session = make_file(tmp_path)
    first = turn(feed, session, accept(), grant(3, encoding="shared"), times=5)
    again = turn(feed, session, RequestHello(), accept(2, 1), grant(5, written=1, encoding="shared"), times=2)
    assert [frame.sequence for frame in again[:2]] == [1, 2]
    assert session.pixels[len(first) : len(first) + 2] == session.pixels[1:3]


def test_file_that_begins_again_frees_all_its_memory(tmp_path: Path) -> None:
    feed, session = make_file(tmp_path)
    turn(feed, session, accept(), grant(3, encoding="shared"), times=5)
    turn(feed, session, grant(0, written=2, encoding="shared"), RequestHello(), accept(2, 0), times=0)
    assert feed._writer is not None and not feed._writer._unwritten
    feed.close()


def test_live_frames_free_their_memory_once_written(tmp_path: Path) -> None:
    feed, session = make_live(tmp_path)
    written = 0
    for _ in range(20):
        says = [grant(1, written=written, encoding="shared")]
        heard = turn(feed, session, *([accept()] if not written else []), *says)
        written += sum(isinstance(message, Frame) for message in heard)
    assert written > 10
    assert len(list(tmp_path.iterdir())) == 1


def test_files_of_a_predecessor_go_once_its_frames_are_written(tmp_path: Path) -> None:
    old = tmp_path / "capture-1-1-0"
    old.touch()
    feed, session = make_file(tmp_path)
    behind = Accept("broker", 2, 5, committed={"clip": grant(0, written=3).committed})
    turn(feed, session, behind, grant(1, written=4, encoding="shared"), times=8)
    assert old.exists()
    turn(feed, session, grant(0, written=5, encoding="shared"))
    assert not old.exists()
