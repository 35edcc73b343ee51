"""TensorFlow without its chatter."""

from pipeline.quiet import quiet_native


def load_keras() -> None:
    """Import Keras and its backend quietly. To be called before the first module that imports them."""
    with quiet_native():
        import keras

        # The first operation starts the backend's devices, with chatter of its own.
        keras.ops.zeros(1)
