"""The seven emotions, the label sets, and the size of a face, shared by trainer and pipeline.

The order is FER2013's: its column `emotion` has 0 for angry to 6 for neutral.
"""

from typing import Final

EMOTIONS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

LABEL_SETS: Final = ("fer2013", "consensus")
"""FER2013's own labels, and the votes of ten people of FER+. A model has outputs for one set or both."""

FACE_SIZE: Final = 48
"""Height and width of a face that the model classifies, in pixels; grey, uint8."""
