"""Files are written whole or not at all."""

from pathlib import Path

import pytest

from pipeline.common.errors import UserError
from pipeline.common.files import replacing, write_json


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    name = tmp_path / ("x" * 240 + ".json")  # the temporary file's name would be too long
    name.write_text("[]")
    with pytest.raises(UserError, match=r"cannot be written \(File name too long\)"):
        write_json(name, {})
    assert name.read_text() == "[]"


def test_failed_block_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
