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
    monkeypatch.setattr(spec, "has_screen", lambda: screen)
    monkeypatch.setattr(spec, "has_ipc", lambda: ipc)
    resolved, lines = resolve(DisplaySettings(**outputs))
    assert resolved.mode == mode
    assert len(lines) == (not screen)
