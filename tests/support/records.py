"""Records of a run that never was, as its results file has them."""

import json
from pathlib import Path
from typing import Any

from pipeline.common.labels import EMOTIONS

BOX = [10.0, 20.0, 40.0, 50.0]


def face(track: int, emotion: str, confidence: float = 0.9, **more: Any) -> dict[str, Any]:
    """Return a face of a record; what is not its emotion's is shared by the others.

    `smoothed` has the same values and, below 0.5, is uncertain.
    """
    others = (1 - confidence) / (len(EMOTIONS) - 1)
    probabilities = {name: confidence if name == emotion else others for name in EMOTIONS}
    values = {"emotion": emotion, "confidence": confidence, "probabilities": probabilities}
    smoothed = values | {"uncertain": confidence < 0.5}
    return {"track": track, "box": BOX} | values | {"smoothed": smoothed} | more


def record(frame: int, *faces: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the record of a frame of clip.mp4, 25 a second."""
    head = {"source": "clip.mp4", "frame": frame, "time_s": frame / 25, "status": "ok", "latency_ms": 20.0}
    return head | {"faces": list(faces)} | more


def write_records(path: Path, records: list[dict[str, Any]]) -> Path:
    """Write a results file, .jsonl."""
    path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    return path
