"""The training programme with a tiny network on a few pictures."""

import json
from pathlib import Path

import pytest

from tools.programme import Programme, parser

CHANGES = ("fitting.epochs=1", "fitting.batch=10", "network.stem=4", "network.stages=[[4], [4]]")


@pytest.mark.long
def test_programme_makes_an_int8_student_with_scores(tiny: Path, votes: Path, tmp_path: Path) -> None:
    options = ["--data", str(tiny), "--votes", str(votes), "--others", str(tiny), "--out", str(tmp_path)]
    options += ["--backend", "tensorflow", "--precision", "float32"]
    options += [word for change in CHANGES for word in ("--set", change)]
    Programme(parser().parse_args(options)).run()
    card = json.loads((tmp_path / "student" / "emotion.json").read_text())
    assert [one["role"] for one in card["ancestors"]] == ["teacher"] * 3
    assert card["onnx"]["precision"] == "int8"
    assert card["settings"]["adjustment"]["refit"] == 0.3
    assert len(json.loads((tmp_path / "scores.json").read_text())["sets"]) == 4  # two sets, by each label
