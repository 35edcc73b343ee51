"""The detect process: frames in, boxes and crops out."""

from collections.abc import Sequence

import cv2
import msgspec
import numpy as np

from pipeline.wire.assignment import Assignment, StopFlag
from pipeline.wire.codec import unpack
from pipeline.wire.messages import Buffer, Work
from stages.detect.detector import detect_step, open_detector
from stages.detect.spec import DetectOptions
from stages.faces import BOXES, pack_faces
from stages.image_codec import BadFrame, ImageReader
from stages.worker import Arrays, StepError, serve

CREDITS = 2
"""While one frame is searched, the next one of a file is on its way."""

WARM_UP = (270, 480, 3)


def run(assignment: Assignment, stop: StopFlag) -> int:
    """Load and warm the detector, then serve."""
    options = msgspec.json.decode(assignment.options, type=DetectOptions)
    settings = options.settings
    cv2.setNumThreads(settings.threads)
    detector = open_detector(settings)
    detect_step(detector, np.zeros(WARM_UP, np.uint8))
    reader = ImageReader(assignment.max_message_bytes, assignment.frames)

    def step(work: Work, buffers: Sequence[Buffer]) -> Arrays:
        assert work.shape is not None
        near = unpack(work.arrays, buffers[:-1])
        around = near[BOXES.name].tolist() if BOXES.name in near else None
        try:
            image = reader.image(buffers[-1], work.encoding, work.shape)
            return pack_faces(*detect_step(detector, image, around, options.crop_shape))
        except BadFrame as error:
            raise StepError(str(error)) from error
        except cv2.error as error:
            raise StepError(f"detector: {error.err or error}") from error

    return serve(assignment, stop, fingerprint=detector.fingerprint, credits=CREDITS, step=step)
