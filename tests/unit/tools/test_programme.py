"""The training programme's steps: their order, the choice of an augmentation, and going on after an end."""

import json
from pathlib import Path

import pytest

from pipeline.common.errors import UserError
from tools import programme
from tools.programme import ARMS, TEACHERS, Programme, parser

AFTER = ["student", "calibrate", "export", "evaluate"]


class Trainer:
    """Stands in for the trainer: notes its commands, and writes a card for each training."""

    def __init__(self, fails_at: str = "", best: str = "video") -> None:
        self.ran: list[str] = []
        self.words: dict[str, list[str]] = {}
        self.fails_at, self.best = fails_at, best

    def __call__(self, words: list[str]) -> int:
        name = words[0]
        if name in ("fit", "distill"):
            out = Path(words[words.index("--out") + 1])
            name = out.name
            out.mkdir(exist_ok=True)
            (out / "checkpoint.json").write_text("{}")
            scores = {"macro_f1": 0.8 if name == self.best else 0.7}
            card = {"figures": {"fer2013": scores, "consensus": scores}}
            (out / "emotion.json").write_text(json.dumps(card))
        self.ran.append(name)
        self.words[name] = words
        return 2 if name == self.fails_at else 0


def run(trainer: Trainer, out: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    monkeypatch.setattr(programme, "trainer", trainer)
    options = ["--data", "fer.zip", "--votes", "votes.csv", "--out", str(out), *more]
    Programme(parser().parse_args(options)).run()


def test_student_is_taught_by_all_teachers_with_the_best_augmentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(best="video")
    run(trainer, tmp_path, monkeypatch, "--others", "elsewhere.zip", "--set", "fitting.batch=32")
    assert trainer.ran == [*TEACHERS, *ARMS, *AFTER]
    student = trainer.words["student"]
    assert [str(tmp_path / name / "emotion.keras") for name in TEACHERS] == student[
        student.index("--teachers") + 1 :
    ][: len(TEACHERS)]
    assert set(ARMS["video"]) <= set(student) and student[-1] == "fitting.batch=32"
    evaluate = trainer.words["evaluate"]
    assert evaluate[evaluate.index("--data") + 1 :][:2] == ["fer.zip", "elsewhere.zip"]


def test_a_failed_step_ends_it_and_the_same_command_continues_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Trainer(fails_at="video"), Trainer()
    with pytest.raises(SystemExit) as ended:
        run(first, tmp_path, monkeypatch)
    assert ended.value.code == 2
    assert first.ran == [*TEACHERS, "plain", "video"]
    run(second, tmp_path, monkeypatch)
    assert second.ran == ["video", "video-balanced", *AFTER]
    assert second.words["video"][-1] == "--resume" and "--resume" not in second.words["student"]


@pytest.mark.parametrize("found", ["[1]", '{"plain": true}', '["plain"', ""])
def test_a_damaged_list_of_steps_is_refused_in_one_line(
    found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "programme.json").write_text(found)
    with pytest.raises(UserError, match=r"programme\.json: expected a list of steps.*delete it") as refused:
        run(Trainer(), tmp_path, monkeypatch)
    assert "\n" not in str(refused.value)
