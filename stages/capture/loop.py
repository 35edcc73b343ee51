"""The capture process: one source's frames out, against credits."""

import os

import msgspec

from pipeline.assignment import Assignment, CaptureOptions
from pipeline.child import StopFlag
from pipeline.messages import PROTOCOL, Hello
from pipeline.session import Session
from stages.capture.feed import Feed
from stages.capture.file_feed import FileFeed
from stages.capture.live_feed import LiveFeed
from stages.capture.reader import open_reader


def run(assignment: Assignment, stop: StopFlag) -> int:
    """Open the source and serve its frames until the run ends."""
    options = msgspec.json.decode(assignment.options, type=CaptureOptions)
    reader = open_reader(options.source, options.settings)
    stop.listen()
    kind = LiveFeed if options.source.kind == "live" else FileFeed
    feed: Feed = kind(reader, options, assignment.max_message_bytes)

    def hello() -> Hello:
        return Hello(
            "capture",
            assignment.name,
            assignment.slot,
            os.getpid(),
            PROTOCOL,
            source=feed.info,
            progress={feed.info.name: feed.progress},
        )

    try:
        with Session(assignment, hello) as session:
            while not stop and not feed.over:
                feed.turn(session)
    finally:
        feed.reader.close()
    return 0
