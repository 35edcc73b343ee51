"""Pictures of several sources in one."""

import numpy as np
import pytest

from stages.display.drawing import CANVAS, EMPTY, Tile, cells, compose

RED = (0, 0, 255)


def picture(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), RED, np.uint8)


def test_a_picture_that_is_alone_keeps_its_size() -> None:
    image = picture(321, 123)
    canvas, (tile,) = compose([image])
    assert np.array_equal(canvas, image) and canvas is not image
    assert tile == Tile(0, 0, 321, 123, 1.0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 17, 64])
def test_cells_lie_inside_the_canvas_and_do_not_overlap(count: int) -> None:
    taken = np.zeros((CANVAS[1], CANVAS[0]), int)
    for x, y, width, height in cells(count):
        assert min(x, y) >= 0 and x + width <= CANVAS[0] and y + height <= CANVAS[1]
        taken[y : y + height, x : x + width] += 1
    assert taken.max() == 1 and len(cells(count)) == count


@pytest.mark.parametrize("size", [(640, 480), (1080, 1920), (3, 1000), (1, 1), (4000, 2)])
def test_a_picture_of_several_keeps_its_proportions(size: tuple[int, int]) -> None:
    canvas, tiles = compose([picture(*size), None])
    assert canvas.shape == (CANVAS[1], CANVAS[0], 3)
    x, y, width, height, scale = tiles[0]
    assert (width, height) == (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    assert (canvas[y : y + height, x : x + width] == RED).all()
    assert (canvas[:, CANVAS[0] // 2 :] == EMPTY).all()


def test_a_point_of_the_canvas_is_one_of_its_picture() -> None:
    tile = Tile(100, 50, 200, 100, 0.5)
    assert tile.inside(100, 50) == (0, 0)
    assert tile.inside(299, 149) == (398, 198)
    assert tile.inside(300, 60) is None and tile.inside(99, 60) is None
