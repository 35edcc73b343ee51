"""What is refused before the page is served."""

import dataclasses
import socket
from pathlib import Path

import pytest

from pipeline.common.errors import UserError
from pipeline.config.schema import PipelineSettings
from pipeline.config.sources import parse_sources
from pipeline.config.stage import RunFacts
from stages.capture.spec import CAPTURE, CaptureOptions
from stages.display.spec import DisplaySettings
from stages.web.guard import Allowance
from stages.web.spec import WebOptions, WebSettings, check_settings, find_port, processes, stored

TOKEN = "a-token-of-sixteen"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (WebSettings(host="0.0.0.0"), "web.host: 0.0.0.0 can be reached .* needs web.token"),
        (WebSettings(host="::"), "needs web.token"),
        (WebSettings(host="192.168.1.5"), "needs web.token"),
        (WebSettings(host="my-machine"), "web.host: expected an address .* found 'my-machine'"),
        (WebSettings(token="short"), "web.token: expected at least 16 ASCII characters, found 5"),
        (WebSettings(certificate="c.pem"), "expected both or neither"),
        (WebSettings(certificate="none.pem", key="none.pem"), "web.certificate: no file none.pem"),
    ],
)
def test_what_is_not_safe_is_refused(settings: WebSettings, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        check_settings(settings)
    assert "\n" not in str(caught.value)


def test_cameras_beyond_the_loopback_need_a_certificate_besides() -> None:
    check_settings(WebSettings(), cameras=True)
    with pytest.raises(UserError, match="source browser needs web"):
        check_settings(WebSettings(host="0.0.0.0", token=TOKEN), cameras=True)
    with pytest.raises(UserError, match="that needs web"):
        check_settings(WebSettings(host="0.0.0.0"), cameras=True)


@pytest.mark.parametrize(
    ("display", "said"),
    [
        (DisplaySettings(), "Nothing is stored."),
        (DisplaySettings(results="out/r.jsonl"), "This run writes results to r.jsonl."),
        (DisplaySettings(results="-"), "This run writes results to standard output."),
        (
            DisplaySettings(results="r.csv", record="out/"),
            "This run records your picture in out and writes results to r.csv.",
        ),
    ],
)
def test_visitors_are_told_what_is_stored(display: DisplaySettings, said: str) -> None:
    assert stored(display) == said


def test_a_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.pem"
    file.write_text("no certificate")
    with pytest.raises(UserError, match=r"web.certificate .*c.pem.* expected a certificate and its key"):
        check_settings(WebSettings(certificate=str(file), key=str(file)))


@pytest.mark.parametrize(
    "settings", [WebSettings(), WebSettings(host="::1"), WebSettings(host="0.0.0.0", token=TOKEN)]
)
def test_the_loopback_needs_nothing_and_others_a_token(settings: WebSettings) -> None:
    check_settings(settings)


def test_a_port_in_use_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < find_port("127.0.0.1", port) < port + 10


def test_no_free_port_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.web.spec.PORTS_TRIED", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"web.port: {port} to {port} are in use"):
            find_port("127.0.0.1", port)


def facts(mode: str) -> RunFacts:
    settings = PipelineSettings(DisplaySettings(mode=mode, mirror=True), WebSettings(port=0))
    return RunFacts(settings, [], [], captures_here=True, directory=Path("/run/it"))


def test_only_a_run_that_shows_a_page_has_its_process() -> None:
    assert processes(facts("window")) == [] == processes(facts("none"))
    (plan,) = processes(facts("web"))
    assert isinstance(plan.options, WebOptions)
    assert plan.options.settings.port > 0
    assert (plan.options.page, plan.options.mirror) == ("ipc:///run/it/page", True)


def test_the_page_of_a_run_with_browser_meets_its_captures() -> None:
    run = dataclasses.replace(facts("web"), sources=parse_sources(["browser:2"]))
    (page,), captures = processes(run), CAPTURE.processes(run)
    assert isinstance(page.options, WebOptions)
    assert page.options.visitors == ["browser#1", "browser#2"] == [plan.source for plan in captures]
    for plan in captures:
        assert isinstance(plan.options, CaptureOptions)
        assert plan.options.page == page.options.visitors_address == "ipc:///run/it/visitors"


def test_an_allowance_is_used_up_and_comes_back() -> None:
    allowance = Allowance(a_second=2.0, burst=3.0)
    assert [allowance.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert allowance.take("b", 0.0)
    assert not allowance.take("a", 0.4)
    assert allowance.take("a", 0.6)


def test_who_asks_is_remembered_within_bounds() -> None:
    allowance = Allowance(1.0, 1.0)
    for number in range(5000):
        allowance.take(str(number), 0.0)
    assert len(allowance._left) <= 1000
