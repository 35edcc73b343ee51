"""What is added to a trained network's logits so that rare emotions aren't overlooked.

A network learns how rare each emotion is along with how it looks, and where it isn't sure it names a common
one. Taking off its logits a share of the logarithm of that prior trades some top-1 for macro-F1: the post-hoc
adjustment of Menon et al., Long-tail learning via logit adjustment, ICLR 2021 (arXiv:2007.07314).
"""

import numpy as np

from pipeline.emotions import EMOTIONS
from trainer.fitting.targets import Targets
from trainer.settings import Adjustment

Offsets = dict[str, list[float]]
"""Seven numbers by output, in the order of EMOTIONS, to add to logits; of those that are adjusted alone."""


def find_offsets(adjustment: Adjustment, targets: Targets) -> Offsets:
    """Those of the outputs that `targets`, of the training pictures, teach."""
    offsets = {}
    for name, wanted in targets.wanted.items():
        if not (share := getattr(adjustment, name)):
            continue
        # One picture more of each, so that no emotion has none and an infinite offset.
        counts = targets.weights[name].astype(np.float64) @ wanted + 1
        prior = counts / counts.sum()
        offsets[name] = [float(value) for value in -share * np.log(prior * len(EMOTIONS))]
    return offsets
