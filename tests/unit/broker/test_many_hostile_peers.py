"""Whatever hostile peers send among honest ones: the broker goes on, bounded, and the books balance."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.hostile_peers import besiege


class Chance:
    """Choices by chance; a seed stands for all of them."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def number(self, least: int, most: int) -> int:
        return self._random.randint(least, most)

    def data(self, length: int) -> bytes:
        return self._random.randbytes(length)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), turns=st.integers(0, 200))
def test_the_broker_goes_on_among_hostile_peers(seed: int, turns: int) -> None:
    besiege(Chance(seed), turns)
