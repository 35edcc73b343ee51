"""Opens the sinks that the settings ask for."""

import contextlib
from collections.abc import Callable, Sequence

from stages.display.output_file import Patience
from stages.display.resume import Checkpoint, Past
from stages.display.sinks.sink import Sink
from stages.display.spec import STDOUT, DisplaySettings, records_pictures


def open_sinks(
    settings: DisplaySettings,
    sources: Sequence[str],
    checkpoint: Checkpoint,
    patience: Patience,
    on_past: Callable[[Past], None],
    page: str = "",
) -> list[Sink]:
    """Return the open sinks in the order in which they are written; results are last, since a record is
    acknowledged once it is written.

    `on_past` takes each record that an earlier process of this run wrote after the checkpoint; `page` is the
    address of the web page's process. Raises UserError in one line for what can't be opened; nothing stays
    open then.
    """
    sinks: list[Sink] = []
    with contextlib.ExitStack() as opened:
        # Each is imported when it is asked for: OpenCV and PyAV take memory, and half a second of the start.
        if settings.mode == "window":
            from stages.display.sinks.window import Window

            sinks.append(Window(sources, mirror=settings.mirror))
            opened.callback(sinks[-1].close)
        if settings.mode == "web":
            from stages.display.sinks.page import Page

            sinks.append(Page(page))
            opened.callback(sinks[-1].close)
        if settings.mode == "draw":
            from stages.display.sinks.null import NullSink

            sinks.append(NullSink())
        if settings.record and records_pictures(settings.record):
            from stages.display.sinks.pictures import Pictures

            sinks.append(Pictures(settings.record, sources, patience))
            opened.callback(sinks[-1].close)
        elif settings.record:
            from stages.display.sinks.video import Recordings

            sinks.append(
                Recordings(
                    settings.record,
                    list(sources),
                    checkpoint.state.recordings,
                    patience,
                    lambda begun: checkpoint.begin(recordings=begun),
                )
            )
            opened.callback(sinks[-1].close)
        if settings.results == STDOUT:
            from stages.display.sinks.lines import Lines

            sinks.append(Lines(patience))
        elif settings.results:
            from stages.display.sinks.results import Results

            sinks.append(Results(settings.results, patience, checkpoint, on_past))
        opened.pop_all()
    return sinks
