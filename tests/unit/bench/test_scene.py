"""How many frames are measured."""

import pytest

from bench.job import ClipInfo
from bench.measure import make_scene, whole_passes


@pytest.mark.parametrize(
    ("asked", "clip", "frames"),
    [
        (300, 300, 300),
        (20, 298, 20),  # a part of a longer clip
        (300, 298, 298),  # nearly the whole: once
        (300, 41, 287),  # seven times
        (300, 51, 306),
        (10, 7, 7),
        (300, 1, 300),
    ],
)
def test_a_short_clip_is_played_in_whole_passes(asked: int, clip: int, frames: int) -> None:
    assert whole_passes(asked, clip) == frames


def test_the_slow_loop_sees_fewer_frames_of_the_same_mix() -> None:
    scene = make_scene("clip", "clip.mp4", 300, ClipInfo(41, 480, 270), 100)
    assert (scene.frames, scene.tutorial_frames) == (287, 82)
    scene = make_scene("clip", "clip.mp4", 20, ClipInfo(20, 480, 270), 100)
    assert (scene.frames, scene.tutorial_frames) == (20, 20)
