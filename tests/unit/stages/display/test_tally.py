"""What a run found, in one line."""

from pipeline.wire.messages import MAX_IN_VIEW
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


def test_the_newest_frame_says_who_is_in_view() -> None:
    display = Display(DisplaySettings(mode="none", uncertain_below=1), ["clip.mp4"], None)
    assert display.tally.in_view("clip.mp4") == ([], 0)
    display.deliver(*outcome(0, [(40.0 * n, 0, 10, 10) for n in range(MAX_IN_VIEW + 3)]))
    display.deliver(*outcome(1, status="dropped", reason="stale"))
    shown, more = display.tally.in_view("clip.mp4")
    assert [face.track for face in shown] == list(range(1, MAX_IN_VIEW + 1))
    assert {(face.label, face.confidence) for face in shown} == {("uncertain", None)}
    assert more == 3
