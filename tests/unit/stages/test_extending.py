"""What docs/extending.md adds, a file and a line each, works as it stands there."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.common.files import PROJECT
from stages.detect.detector import detect_step, open_detector
from stages.detect.spec import DETECTORS, DetectorKind, DetectSettings
from stages.display.display import Display
from stages.display.sinks.sink import Outcome, Sink
from stages.display.spec import SHOWN, DisplaySettings
from stages.faces import Box, Face
from tests.support.deliveries import outcome

NAMES = {
    "Box": Box, "DetectSettings": DetectSettings, "Face": Face, "NDArray": NDArray, "Outcome": Outcome,
    "Path": Path, "Sequence": Sequence, "Sink": Sink, "np": np,
}  # fmt: skip


def add(monkeypatch: pytest.MonkeyPatch, table: dict[str, Any], word: str) -> None:
    """Make the module of the document's class, and add the document's line to a table."""
    text = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (line,) = [block for block in blocks if block.lstrip().startswith(f'"{word}":')]
    where, name = re.findall(r'"(stages\.[\w.]+)", "(\w+)"', line)[0]
    (source,) = [block for block in blocks if block.startswith(f"class {name}")]
    module = ModuleType(where)
    exec(source, module.__dict__ | NAMES, module.__dict__)
    monkeypatch.setitem(sys.modules, where, module)
    added: dict[str, Any] = {"DetectorKind": DetectorKind}
    exec(f"line = {{{line}}}", added)
    monkeypatch.setitem(table, word, added["line"][word])


def test_a_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, DETECTORS, "centre")
    detector = open_detector(DetectSettings(model="centre"))
    faces, crops = detect_step(detector, np.zeros((60, 80, 3), np.uint8))
    assert faces == [Face((20, 15, 40, 30), 1.0)]
    assert crops.shape == (1, 48, 48)


def test_an_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    add(monkeypatch, SHOWN, "counts")
    display = Display(DisplaySettings(mode="counts"), ["clip.mp4"], None)
    display.deliver(*outcome(0, [(1, 2, 30, 40)]))
    display.close()
    assert capsys.readouterr().out == "clip.mp4 0 1\n"
