"""The seven emotions, whose labels a model learns, and the size of a face, shared by trainer and pipeline.

The order is FER2013's own: its column `emotion` holds 0 for angry to 6 for neutral.
"""

from typing import Final

EMOTIONS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

LABEL_SETS: Final = ("fer2013", "consensus")
"""Whose labels an output of a model stands for: FER2013's own, or those of the ten people of FER+.

A model has an output for one of them or for both."""

FACE_SIZE: Final = 48
"""Height and width of a face that the model classifies, in pixels; grey, uint8."""
