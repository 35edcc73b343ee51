"""What a run found, in one line."""

from stages.display.display import Display
from stages.display.spec import DisplaySettings
from tests.support.deliveries import outcome


def test_faces_frames_and_shares_are_counted() -> None:
    display = Display(DisplaySettings(mode="none"), ["clip.mp4"], None)
    assert not display.tally
    display.deliver(*outcome(0, [(0, 0, 10, 10), (50, 0, 10, 10)]))
    display.deliver(*outcome(1))
    display.deliver(*outcome(2, status="dropped", reason="stale"))
    text = str(display.tally)
    assert text.startswith("faces found 2 in 2 frames; frames without a face 1; ")
    assert text.count("%") in (1, 2)


def test_a_run_without_faces_has_no_shares() -> None:
    display = Display(DisplaySettings(mode="none"), ["clip.mp4"], None)
    display.deliver(*outcome(0))
    assert str(display.tally) == "faces found 0 in 1 frames; frames without a face 1"
