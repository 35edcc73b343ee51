"""Parts of a frame that are searched near known faces."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from stages.detect.yunet import MARGIN, MOST, STEP, Region, regions_around


def test_region_has_the_face_and_its_margin_on_the_grid() -> None:
    (region,) = regions_around([(500.0, 300.0, 80.0, 100.0)], 1920, 1080)
    assert region.left <= 540 - (0.5 + MARGIN) * 100 and region.right >= 540 + (0.5 + MARGIN) * 100
    assert region.top <= 350 - (0.5 + MARGIN) * 100 and region.bottom >= 350 + (0.5 + MARGIN) * 100
    assert region.left % STEP == region.top % STEP == 0
    assert region.area < 0.1 * 1920 * 1080


def test_regions_that_touch_are_joined() -> None:
    boxes = [(100.0, 100.0, 50.0, 50.0), (800.0, 100.0, 50.0, 50.0), (160.0, 120.0, 50.0, 50.0)]
    assert len(regions_around(boxes, 1920, 1080)) == 2


def test_crowd_is_searched_as_a_whole() -> None:
    boxes = [(x, y, 100.0, 100.0) for x in range(0, 800, 120) for y in range(0, 600, 120)]
    assert regions_around(boxes, 832, 640) == [Region(0, 0, 832, 640)]


def test_no_face_leaves_nothing_to_search() -> None:
    assert regions_around([], 640, 480) == []


BOXES = st.tuples(*[st.floats(-3000, 3000)] * 2, *[st.floats(0.1, 3000)] * 2)


@given(st.lists(BOXES, max_size=12), st.integers(1, 2000), st.integers(1, 2000))
def test_regions_lie_inside_the_frame_and_apart(
    boxes: list[tuple[float, float, float, float]], width: int, height: int
) -> None:
    regions = regions_around(boxes, width, height)
    for region in regions:
        assert 0 <= region.left < region.right <= width
        assert 0 <= region.top < region.bottom <= height
    assert not any(a.touches(b) for a, b in itertools.combinations(regions, 2))
    area = sum(region.area for region in regions)
    assert regions == [Region(0, 0, width, height)] or area <= MOST * width * height
