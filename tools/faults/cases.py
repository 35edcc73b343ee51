"""What is done to which processes of a run: the rows of the matrix."""

import itertools
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

Blow = Literal["kill", "stop"]
SourceKind = Literal["file", "live"]

TARGETS: Final = ("capture-1", "broker", "detect-1", "classify-1", "display")
PAIRS: Final = (*itertools.combinations(TARGETS, 2), ("detect-1", "detect-2"))


class Case(NamedTuple):
    """SIGKILL or SIGSTOP to one process, or to two at the same moment."""

    kind: SourceKind
    blow: Blow
    targets: tuple[str, ...]

    @property
    def fault(self) -> str:
        return f"{'kill -9' if self.blow == 'kill' else 'SIGSTOP'} {' + '.join(self.targets)}"


def all_cases() -> Iterator[Case]:
    kinds: tuple[SourceKind, ...] = ("file", "live")
    blows: tuple[Blow, ...] = ("kill", "stop")
    for group in ([(target,) for target in TARGETS], PAIRS):
        for kind, blow, targets in itertools.product(kinds, blows, group):
            yield Case(kind, blow, targets)
