"""Files that others do things to while they are written."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.display.output_file import OutputFailed, OutputFile, Patience


def opened(path: Path, patience: Patience | None = None, *, append: bool = True) -> OutputFile:
    file = OutputFile("results", path, patience or Patience(0.0), append=append)
    file.begin()
    return file


def fails(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> list[int]:
    """Let `os.write` write half and then fail, so many times; what it was asked for is counted."""
    write, calls = os.write, [0]

    def failing(fd: int, data: bytes) -> int:
        calls[0] += 1
        if calls[0] > 2 * times:
            return write(fd, data)
        if calls[0] % 2:
            return write(fd, data[: len(data) // 2])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", failing)
    return calls


def test_short_writes_are_completed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = opened(tmp_path / "f")
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    assert file.write(b"0123456789") == 10
    monkeypatch.undo()
    file.close()
    assert (tmp_path / "f").read_bytes() == b"0123456789"


@pytest.mark.parametrize("append", [True, False])
def test_room_on_a_full_disk_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, append: bool
) -> None:
    """While it waits nothing of the record is in the file, and the loop is shown to be alive."""
    patience, seen = Patience(60.0), list[bytes]()
    file = opened(tmp_path / "f", patience, append=append)
    file.write(b"before\n")

    def pause(seconds: float) -> bool:
        seen.append((tmp_path / "f").read_bytes())
        return True

    patience.pause = pause
    fails(monkeypatch, errno.ENOSPC, times=3)
    file.write(b"a record\n")
    monkeypatch.undo()
    file.write(b"after\n")
    file.close()
    assert seen == [b"before\n"] * 3
    assert (tmp_path / "f").read_bytes() == b"before\na record\nafter\n"
    assert [record.getMessage() for record in caplog.records] == [
        f"results {tmp_path / 'f'}: No space left on device; waiting up to 60 s for room",
        f"results {tmp_path / 'f'}: is written again",
    ]


def test_a_disk_that_stays_full_is_given_up_and_no_other_output_waits_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    patience = Patience(0.3)
    first, second = opened(tmp_path / "f", patience), opened(tmp_path / "g", patience)
    first.write(b"before\n")
    fails(monkeypatch, errno.ENOSPC, times=1000)
    with pytest.raises(OutputFailed, match=r"results .*f: cannot be written any more: No space left"):
        first.write(b"a record\n")
    monkeypatch.undo()
    calls = fails(monkeypatch, errno.ENOSPC, times=1000)
    with pytest.raises(OutputFailed, match=r"results .*g: "):
        second.write(b"a record\n")
    assert calls == [2]
    assert ((tmp_path / "f").read_bytes(), (tmp_path / "g").read_bytes()) == (b"before\n", b"")


def test_waiting_ends_when_the_process_is_asked_to_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    patience = Patience(60.0)
    patience.pause = lambda seconds: False
    file = opened(tmp_path / "f", patience)
    calls = fails(monkeypatch, errno.EDQUOT, times=1000)
    with pytest.raises(OutputFailed, match="Disk quota exceeded"):
        file.write(b"a record\n")
    assert calls == [2]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.EFBIG])
def test_other_failures_are_not_waited_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    file = opened(tmp_path / "f", Patience(60.0))
    file.write(b"before\n")
    calls = fails(monkeypatch, number, times=1000)
    with pytest.raises(OutputFailed, match=os.strerror(number)):
        file.write(b"a record\n")
    assert calls == [2]
    assert (tmp_path / "f").read_bytes() == b"before\n"


def removed(path: Path) -> None:
    path.unlink()


def directory_removed(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


def renamed(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replaced(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.write_bytes(b"of another program")


def cut(path: Path) -> None:
    os.truncate(path, 3)


def directory_is_a_file(path: Path) -> None:
    directory_removed(path)
    path.parent.touch()


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (removed, "it has been removed"),
        (directory_removed, "it has been removed"),
        (directory_is_a_file, "it has been removed"),
        (renamed, "it has been removed"),
        (replaced, "another file has taken its place"),
        (cut, "another program has cut it"),
    ],
)
def test_a_file_that_is_no_longer_where_it_was(
    tmp_path: Path, act: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "folder" / "f"
    path.parent.mkdir()
    file = opened(path)
    file.write(b"a record\n")
    file.check()
    act(path)
    with pytest.raises(OutputFailed, match=f"results {path}: cannot be written any more: {said}"):
        file.check()
    file.close()


def test_a_file_that_was_emptied_and_has_grown_again_is_noticed(tmp_path: Path) -> None:
    file = opened(tmp_path / "f")
    file.write(b"a record\n")
    os.truncate(tmp_path / "f", 0)
    for _ in range(10):
        file.write(b"a record\n")
    with pytest.raises(OutputFailed, match="another program has cut it"):
        file.check()
    file.close()


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "f")
    file = opened(tmp_path / "link")
    file.write(b"a record\n")
    file.check()
    file.close()
    assert (tmp_path / "f").read_bytes() == b"a record\n"


def test_going_on_with_a_file_that_was_removed_or_replaced(tmp_path: Path) -> None:
    with pytest.raises(OutputFailed, match="it has been removed"):
        OutputFile("results", tmp_path / "f", Patience(0.0), known=True)
    assert not (tmp_path / "f").exists()
