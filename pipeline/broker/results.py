"""What the result of a step must look like, for the broker to take it in."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from numpy.typing import NDArray

from pipeline.broker.peers import Job
from pipeline.config.stage import Step
from pipeline.wire.messages import Array, Result

Check = Callable[[Mapping[str, NDArray[Any]]], str]


class ResultChecks:
    """By step, the form of its arrays and the function that looks at their values."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._gives = {step.role: step.gives for step in steps}
        self._checks = {step.role: _load(step.check) for step in steps if step.check}

    def form(self, role: str, job: Job, result: Result) -> str:
        """Say how a result's arrays differ from those of its step; "" if they do not."""
        if job.pieces and result.items != job.items:
            return f"a result for {result.items} items of the {job.items} that it was sent"
        expected = [Array(a.name, a.dtype, [result.items, *a.shape]) for a in self._gives[role]]
        if result.arrays == expected:
            return ""
        return f"a result with {_names(result.arrays)} where {_names(expected)} were expected"

    def values(self, role: str, arrays: Mapping[str, NDArray[Any]]) -> str:
        """Say what is wrong with the values of arrays that have the right form; "" if nothing is."""
        found = self._checks[role](arrays) if role in self._checks else ""
        return f"a result with {found}" if found else ""


def _names(arrays: Sequence[Array]) -> str:
    return ", ".join(f"{array.name} {array.dtype}{array.shape}" for array in arrays) or "nothing"


def _load(path: str) -> Check:
    """Return the function of a path such as stages.faces:check_boxes."""
    module, _, name = path.partition(":")
    check: Check = getattr(import_module(module), name)
    return check
