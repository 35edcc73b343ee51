"""What is settled before a run's first process starts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.broker.spec import BROKER
from pipeline.cli.main import ROLES
from pipeline.cli.resolve import check_places, prepare
from pipeline.common.errors import UserError
from pipeline.config.schema import LogSettings
from pipeline.config.sources import parse_sources
from pipeline.supervisor.plan import make_plan
from pipeline.supervisor.reporter import Reporter
from stages.classify.spec import ClassifyOptions
from stages.display.spec import UNCERTAIN_BELOW, DisplaySettings
from stages.stage import STAGES, read_settings
from tests.support.model_cards import write_model

ONLY = frozenset({"classify"})


@pytest.fixture
def reporter() -> Iterator[Reporter]:
    reporter = Reporter(LogSettings())
    yield reporter
    reporter.close()


def test_every_classifier_of_a_run_is_given_its_labels(
    tmp_path: Path, reporter: Reporter, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the card says later no longer matters."""
    model = write_model(tmp_path, outputs=["fer2013", "consensus"])
    settings = read_settings(None, [f"classify.model={model}", "classify.workers=2"])
    settings, sources = prepare(settings, ONLY, reporter)
    plan = make_plan((BROKER, *STAGES), settings, sources, ONLY, tmp_path)
    given = [process.options for process in plan.processes]
    labels = [options.settings.labels for options in given if isinstance(options, ClassifyOptions)]
    assert labels == ["consensus"] * 2
    assert f"emotion model: {model}, labels: consensus" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["auto", "web"])
def test_browser_is_served_by_the_page(tmp_path: Path, reporter: Reporter, mode: str) -> None:
    given = [f"classify.model={write_model(tmp_path)}", "capture.sources=browser:1", f"display.mode={mode}"]
    settings, sources = prepare(read_settings(None, given), frozenset(ROLES), reporter)
    assert settings.of(DisplaySettings).mode == "web"
    assert [source.name for source in sources] == ["browser#1"]


@pytest.mark.parametrize(
    ("mode", "here", "said"),
    [
        ("window", ROLES, "expected --display web, found window"),
        ("none", ROLES, "expected --display web, found none"),
        ("auto", ["capture"], "--only leaves out web and display"),
        ("auto", ["capture", "display"], "--only leaves out web"),
    ],
)
def test_browser_without_its_page_is_refused(
    reporter: Reporter, mode: str, here: Sequence[str], said: str
) -> None:
    settings = read_settings(None, ["capture.sources=browser", f"display.mode={mode}"])
    with pytest.raises(UserError, match=said):
        prepare(settings, frozenset(here), reporter)


def test_labels_that_the_model_has_not_end_a_run_before_it_starts(tmp_path: Path, reporter: Reporter) -> None:
    assignments = [f"classify.model={write_model(tmp_path)}", "classify.labels=consensus"]
    with pytest.raises(UserError, match="consensus expected"):
        prepare(read_settings(None, assignments), ONLY, reporter)


@pytest.mark.parametrize(
    ("figures", "given", "expected"),
    [
        ({"fer2013": {"uncertain_below": 0.47}}, [], 0.47),
        ({"fer2013": {"uncertain_below": 0.47}}, ["display.uncertain_below=0.3"], 0.3),
        ({"fer2013": {"uncertain_below": 0.47}}, ["display.uncertain_below=0"], 0.0),
        ({"fer2013": {"top1": 0.6}}, [], UNCERTAIN_BELOW),
        ({"consensus": {"uncertain_below": 0.47}}, [], UNCERTAIN_BELOW),
        ({"fer2013": {"uncertain_below": "high"}}, [], UNCERTAIN_BELOW),
    ],
)
def test_threshold_of_uncertain_faces_is_the_cards_unless_it_is_given(
    tmp_path: Path, reporter: Reporter, figures: object, given: list[str], expected: float
) -> None:
    model = write_model(tmp_path, figures=figures)
    settings = read_settings(None, [f"classify.model={model}", *given])
    settings, _ = prepare(settings, ONLY, reporter)
    assert settings.of(DisplaySettings).uncertain_below == expected


def test_display_on_a_machine_without_the_model_has_a_threshold(tmp_path: Path, reporter: Reporter) -> None:
    settings = read_settings(None, [f"classify.model={tmp_path / 'none.onnx'}", "display.mode=none"])
    settings, _ = prepare(settings, frozenset({"display"}), reporter)
    assert settings.of(DisplaySettings).uncertain_below == UNCERTAIN_BELOW


def test_a_place_of_a_cluster_needs_the_engine_that_knows_places() -> None:
    check_places(parse_sources(["0"]))
    with pytest.raises(UserError, match="source 0@camera:door: a place of a cluster needs --engine ray"):
        check_places(parse_sources(["0@camera:door"]))
