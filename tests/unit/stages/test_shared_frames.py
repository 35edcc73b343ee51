"""Frames in shared memory: written by one process, read by others."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.image_codec import MOST_MAPPED, PLACES, BadFrame, FrameReader, FrameWriter, ImageReader

SHAPE = (4, 6, 3)


def image(value: int, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.uint8]:
    return np.full(shape, value, np.uint8)


def write(writer: FrameWriter, picture: NDArray[np.uint8], sequence: int = 0) -> str:
    name = writer.write(sequence, picture)
    assert name is not None
    return name


def test_reader_gets_what_was_written(tmp_path: Path) -> None:
    writer, reader = FrameWriter(tmp_path, "capture-1"), FrameReader(tmp_path)
    names = [write(writer, image(value)) for value in (1, 2, 3)]
    assert len(set(names)) == 3
    for name, value in zip(names, (1, 2, 3), strict=True):
        found = reader.read(name, SHAPE)
        assert np.array_equal(found, image(value))
        assert not found.flags.writeable


def test_freed_memory_is_used_again(tmp_path: Path) -> None:
    writer, reader = FrameWriter(tmp_path, "capture-1"), FrameReader(tmp_path)
    names = [write(writer, image(value), value) for value in range(4)]
    writer.release(before=1)
    assert write(writer, image(9), 4) == names[0]
    assert [reader.read(name, SHAPE)[0, 0, 0] for name in names] == [9, 1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 1


def test_more_frames_than_a_file_holds_get_another_file(tmp_path: Path) -> None:
    writer, reader = FrameWriter(tmp_path, "capture-1"), FrameReader(tmp_path)
    names = [write(writer, image(value)) for value in range(2 * PLACES)]
    assert [reader.read(name, SHAPE)[0, 0, 0] for name in names] == list(range(2 * PLACES))
    assert len(list(tmp_path.iterdir())) == 2


def test_larger_frame_gets_a_file_of_its_own(tmp_path: Path) -> None:
    writer, reader = FrameWriter(tmp_path, "capture-1"), FrameReader(tmp_path)
    write(writer, image(1), 0)
    kept = write(writer, image(2), 1)
    writer.release(before=1)
    large = write(writer, image(3, (8, 6, 3)), 2)
    assert np.array_equal(reader.read(large, (8, 6, 3)), image(3, (8, 6, 3)))
    assert np.array_equal(reader.read(kept, SHAPE), image(2))
    assert len(list(tmp_path.iterdir())) == 2


def test_file_too_small_is_removed_once_it_is_free(tmp_path: Path) -> None:
    writer = FrameWriter(tmp_path, "capture-1")
    write(writer, image(1))
    writer.release(before=1)
    write(writer, image(2, (8, 6, 3)))
    assert len(list(tmp_path.iterdir())) == 1


def test_full_memory_gives_no_name_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    writer = FrameWriter(tmp_path, "capture-1")
    kept = write(writer, image(1))
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        assert [writer.write(1, image(2)) for _ in range(3)] == [None] * 3
    assert np.array_equal(FrameReader(tmp_path).read(kept, SHAPE), image(1))
    assert write(writer, image(2))
    assert len(list(tmp_path.iterdir())) <= 2


def test_files_of_predecessor_stay_until_its_frames_are_written(tmp_path: Path) -> None:
    of_predecessor, of_another = tmp_path / "capture-1-1-0", tmp_path / "capture-11-1-0"
    of_predecessor.touch()
    of_another.touch()
    writer = FrameWriter(tmp_path, "capture-1")
    writer.begin(5)
    own = write(writer, image(1), 5)
    writer.release(before=4)
    assert of_predecessor.exists()
    writer.release(before=5)
    assert {path.name for path in tmp_path.iterdir()} == {of_another.name, own.partition(".")[0]}


@pytest.mark.parametrize(
    "name",
    [
        "../secret.0",
        "/etc/passwd.0",
        "",
        ".",
        ".0",
        "a/b.0",
        "a" * 61 + ".0",
        "a.32",
        "a.100",
        "a",
        "ä.0",
        "none.0",
    ],
)
def test_name_that_is_none_of_a_frame_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 1000)
    inside = tmp_path / "frames"
    inside.mkdir()
    with pytest.raises(BadFrame, match="shared frame"):
        ImageReader(1000, str(inside)).image(name.encode(), "shared", SHAPE)


def test_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 1000)
    (tmp_path / "frame").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="frame"):
        FrameReader(tmp_path).read("frame.0", SHAPE)


def test_frame_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    name = write(FrameWriter(tmp_path, "capture-1"), image(1))
    with pytest.raises(OSError, match="72"):
        FrameReader(tmp_path).read(name, (400, 600, 3))


def test_process_without_shared_memory_refuses_a_shared_frame() -> None:
    with pytest.raises(BadFrame, match="shares no memory"):
        ImageReader(1000).image(b"frame", "shared", SHAPE)


def test_reader_maps_a_bounded_number_of_files(tmp_path: Path) -> None:
    """Each holds a descriptor."""
    writer, reader = FrameWriter(tmp_path, "capture-1"), FrameReader(tmp_path)
    for value in range(PLACES * (MOST_MAPPED + 10)):
        assert reader.read(write(writer, image(value % 256)), SHAPE)[0, 0, 0] == value % 256
    assert len(reader._mapped) == MOST_MAPPED


def test_place_beyond_the_file_is_refused(tmp_path: Path) -> None:
    file = write(FrameWriter(tmp_path, "capture-1"), image(1)).partition(".")[0]
    with pytest.raises(OSError, match="32 places"):
        FrameReader(tmp_path).read(f"{file}.32", SHAPE)
