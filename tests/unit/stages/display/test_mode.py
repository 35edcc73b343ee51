"""What `auto` shows."""

import pytest

from stages.display import spec
from stages.display.spec import DisplaySettings, resolve


@pytest.mark.parametrize(
    ("screen", "ipc", "outputs", "mode"),
    [
        (True, True, {}, "window"),
        (True, True, {"results": "r.jsonl"}, "window"),
        (False, True, {}, "web"),
        (False, True, {"results": "r.jsonl"}, "none"),
        (False, True, {"results": "-"}, "none"),
        (False, True, {"record": "v.mkv"}, "none"),
        (False, False, {}, "none"),
    ],
)
def test_auto_shows_what_there_is(
    monkeypatch: pytest.MonkeyPatch, screen: bool, ipc: bool, outputs: dict[str, str], mode: str
) -> None:
    """Without a screen a run that writes files is not watched: it would go at the clip's own rate."""
    monkeypatch.setattr(spec, "window_trouble", lambda: "" if screen else "no screen here")
    monkeypatch.setattr(spec, "has_ipc", lambda: ipc)
    resolved, lines = resolve(DisplaySettings(**outputs))
    assert resolved.mode == mode
    assert len(lines) == (not screen)


@pytest.mark.parametrize(
    ("outputs", "mode", "said"),
    [
        ({}, "web", "cannot open a window on :9: a web page is served instead"),
        ({"results": "r.csv"}, "none", "cannot open a window on :9: the status is shown here"),
    ],
)
def test_auto_does_without_a_screen_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, outputs: dict[str, str], mode: str, said: str
) -> None:
    """DISPLAY may be left over from another session, or be another user's."""
    monkeypatch.setattr(spec, "has_ipc", lambda: True)
    monkeypatch.setattr(spec, "window_trouble", lambda: "cannot open a window on :9")
    resolved, (line,) = resolve(DisplaySettings(**outputs))
    assert resolved.mode == mode
    assert line.startswith(said)
    assert spec.check(DisplaySettings(mode="window"))[0].state == "missing"
