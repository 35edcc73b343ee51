"""The order of the seven emotions and the size of a face, shared by the trainer and the pipeline.

The order is FER2013's own: its column `emotion` holds 0 for angry to 6 for neutral.
"""

from typing import Final

EMOTIONS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

FACE_SIZE: Final = 48
"""Height and width of a face that the model classifies, in pixels; grey, uint8."""
