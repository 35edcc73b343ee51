"""A sink that draws each frame as a window would, and shows nothing: the benchmark's."""

from stages.display.sinks.sink import Outcome, Sink


class NullSink(Sink):
    """See Sink."""

    wants_pixels = True

    def write(self, outcome: Outcome) -> None:
        _ = outcome.drawn
