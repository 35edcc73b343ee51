"""Which parts of a frame are searched where the faces of a moment ago are known."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from pipeline.messages import Box

MARGIN: Final = 0.75
"""How far a face may have moved, in face sizes, and what the network needs to see around it. With 0.5 as with
1, no face of the clips is lost two frames later (docs/detection.md)."""

STEP: Final = 32
"""px; regions begin at the network's coarsest cells, so that it sees a face as it does in the whole frame."""

MOST: Final = 0.6
"""Of the frame: above, the whole of it is searched, which costs little more than its parts."""


class Region(NamedTuple):
    """A part of a frame, px; right and bottom are outside of it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        return (self.right - self.left) * (self.bottom - self.top)

    def touches(self, other: "Region") -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def joined(self, other: "Region") -> "Region":
        return Region(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )


def regions_around(boxes: Sequence[Box], width: int, height: int) -> list[Region]:
    """Return what to search of a frame for the faces that were in `boxes` (x, y, width, height, px).

    Regions do not overlap. Where they would make up most of the frame, it is the whole frame.
    """
    whole = Region(0, 0, width, height)
    found: list[Region] = []
    for box in boxes:
        region = _around(box, width, height)
        while touched := next((other for other in found if region.touches(other)), None):
            found.remove(touched)
            region = region.joined(touched)
        found.append(region)
    return found if sum(region.area for region in found) <= MOST * whole.area else [whole]


def _around(box: Box, width: int, height: int) -> Region:
    x, y, box_width, box_height = box
    reach = (0.5 + MARGIN) * max(box_width, box_height)
    left, top = x + box_width / 2 - reach, y + box_height / 2 - reach
    return Region(
        _limited(math.floor(left / STEP) * STEP, width - 1),
        _limited(math.floor(top / STEP) * STEP, height - 1),
        max(1, _limited(math.ceil((left + 2 * reach) / STEP) * STEP, width)),
        max(1, _limited(math.ceil((top + 2 * reach) / STEP) * STEP, height)),
    )


def _limited(place: int, most: int) -> int:
    return min(max(place, 0), most)
