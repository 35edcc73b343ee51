"""TensorFlow without its chatter."""

import importlib.util

from pipeline.common.native_output import quiet_native


def load_keras() -> None:
    """Import Keras and its backend quietly. To be called before the first module that imports them."""
    with quiet_native():
        import keras

        # The first operation starts the backend's devices, with chatter of its own.
        keras.ops.zeros(1)
        if keras.backend.backend() != "tensorflow" and importlib.util.find_spec("tensorflow"):
            importlib.import_module("tensorflow")  # which Keras would, later, to know its arrays
