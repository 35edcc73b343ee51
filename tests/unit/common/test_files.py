"""Files that are whole or not there at all."""

from pathlib import Path

import pytest

from pipeline.common.errors import UserError
from pipeline.common.files import replacing, write_json


def test_what_cannot_be_written_is_told_and_what_was_there_stays(tmp_path: Path) -> None:
    name = tmp_path / ("x" * 240 + ".json")  # the unfinished one's would be too long
    name.write_text("[]")
    with pytest.raises(UserError, match=r"cannot be written \(File name too long\)"):
        write_json(name, {})
    assert name.read_text() == "[]"


def test_a_block_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
