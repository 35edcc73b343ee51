"""Start and memory of a run, on a run.py that does nothing."""

import os
import sys
from pathlib import Path

import pytest

from bench.against import Checkout
from tests.support.checkouts import make_fake
from tools import startup
from tools.measuring import make_parser, run_program
from tools.startup import Start, describe, measure_start, pss_mb, row

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PSS is Linux's")


@pytest.fixture
def fake(tmp_path: Path) -> Checkout:
    return Checkout("fake", make_fake(tmp_path / "fake"), Path(sys.executable), ("fake.endless=yes",))


@linux
def test_first_record_and_memory(fake: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "SETTLE_S", 0.0)
    monkeypatch.setattr(startup, "LOOK_EVERY_S", 0.01)
    start = measure_start(fake, "demo", tmp_path)
    assert start.first_record_s > 0
    assert list(start.pss_mb) == ["run.py"]
    assert start.total_mb == pytest.approx(start.pss_mb["run.py"], rel=0.5)


@linux
def test_memory_is_that_of_all_processes() -> None:
    held = pss_mb(os.getpid())
    assert held["run.py"] > 1.0


def test_figures_are_medians(fake: Checkout) -> None:
    starts = [
        Start(s, {"run.py": mb, "broker": 10.0}, mb + 10.0)
        for s, mb in ((2.0, 20.0), (4.0, 25.0), (3.0, 30.0))
    ]
    figures = describe(fake, starts)
    assert (figures["first_record_s"], figures["pss_mb"]) == (3.0, 35.0)
    assert figures["pss_mb_by_process"] == {"run.py": 25.0, "broker": 10.0}
    assert row(figures) == ["fake (no commit)", "3.00 (2.00–4.00)", "35 (30–40)", "2"]


def test_user_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    options = make_parser("tools.startup", None, 1).parse_args([])
    assert run_program(startup.measure, options) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: tools.startup: PSS is read from /proc")
