"""Facial emotions from Python: docs/python.md has examples.

import emotions

analyser = emotions.load()
record = analyser.analyse("portrait.jpg")

for record in emotions.watch("0"):
    print(record.faces)
"""

from pipeline.api import Analyser, Watch, draw, load, watch
from pipeline.common.errors import UserError as Error
from pipeline.common.labels import EMOTIONS
from stages.display.record import FaceRecord, Record

__all__ = ["EMOTIONS", "Analyser", "Error", "FaceRecord", "Record", "Watch", "draw", "load", "watch"]
