"""What a stage declares of itself. The table of all stages is STAGES in stages/stage.py.

A declaration imports nothing heavy: the supervisor and the command line read it without OpenCV or a network.
"""

from typing import Literal

import msgspec


class Array(msgspec.Struct, frozen=True):
    """One named array of a step's result: a row for each item that was found in the frame."""

    dtype: str  # numpy's name of it
    row: tuple[int, ...] = ()  # shape of one row; (): a number
    deliver: bool = True  # to display; otherwise it is released after the last step that takes it


class Step(msgspec.Struct, frozen=True):
    """Work that the broker hands to the processes of a stage. It travels to the broker in its options.

    The first step of a run has the unit `frame`: it is given the frame and says which items are in it. Each
    step after it has the unit `item`: it is given arrays of items, of several frames at once.
    """

    role: str  # of the processes that do it
    unit: Literal["frame", "item"]
    gives: dict[str, Array]
    takes: tuple[str, ...] = ()  # arrays that earlier steps gave; for the unit `item`
    check: str = ""  # "module:function", called with the arrays of a result; returns what is wrong with them
    max_batch: int = 1  # items in one piece of work
    max_delay_ms: float = 0.0  # how long an item may wait for company
    recall: str = ""  # live sources: an array of the newest finished frame, handed along as a hint
    recall_ms: float = 0.0  # how often a frame goes without the hint
    same_model: str = "file"  # what has to be the same on every machine, for the line that refuses a worker
