"""What a message may hold at the most, so that no peer can make another one hold more than that.

msgspec checks the types as it reads them: whatever is out of these bounds is no message. Not-a-number is
out of every range.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta

MAX_HEADER_BYTES: Final = 1024 * 1024
"""Looked at before a header is decoded. The hello of a display that
writes MAX_SOURCES sources 0.6 MB and the report of a run with MAX_PEERS stages 1.0 MB, if every text in them
has its greatest length, in letters of four bytes."""

MAX_PARTS: Final = 1 + 1024
"""A header and, of a batch for classification, the items of MAX_BATCH frames."""

MAX_BATCH: Final = 1024

MAX_ITEMS: Final = 5000
"""Items, such as faces, of one frame: YuNet has so many candidates."""

MAX_ARRAYS: Final = 16
"""Arrays that a step gives, or that all steps give of one frame."""

MAX_DIMENSIONS: Final = 4

MAX_SOURCES: Final = 64
MAX_PEERS: Final = 256
MAX_WINDOW: Final = 1024
"""Frames of a source whose outcome is not written yet: the most that `broker.file_window` may be, and what
is kept of a live source while display is away."""

MAX_REASONS: Final = 16
"""Different reasons for which frames of one source are dropped."""

MAX_REASON_LENGTH: Final = 64

MAX_RECORDS: Final = 64
MAX_RECORD_BYTES: Final = 4 * 1024 * 1024
"""A record of MAX_ITEMS faces has 1.7 MB."""

MAX_LATENCIES: Final = 4096
MAX_ERROR: Final = 500  # characters of why a source ended
MAX_SIDE: Final = 16_384
"""Longest side of a frame, px: room for 8K video and large photographs."""

LABEL_LENGTH: Final = 64

Label = Annotated[str, Meta(min_length=1, max_length=LABEL_LENGTH)]
Name = Annotated[str, Meta(min_length=1, max_length=1024)]
Reason = Annotated[str, Meta(min_length=1, max_length=MAX_REASON_LENGTH)]
Text = Annotated[str, Meta(max_length=4096)]
Index = Annotated[int, Meta(ge=0, le=2**53)]
Frames = Annotated[int, Meta(ge=0, le=2**40)]  # a claim of so many leaves room to count on
Nanoseconds = Annotated[int, Meta(ge=0, le=2**62)]
Moment = Annotated[int, Meta(ge=-(2**62), le=2**62)]  # ns: before the boot of the machine, if negative
Duration = Annotated[int, Meta(ge=0, le=10**13)]  # ns: below three hours, so that sums of many fit 64 bits
Count = Annotated[int, Meta(ge=0, le=100_000)]
Items = Annotated[int, Meta(ge=0, le=MAX_ITEMS)]
Credits = Annotated[int, Meta(ge=0, le=64)]
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
Shape = tuple[Side, Side, Literal[3]]
Seconds = Annotated[float, Meta(ge=-1e15, le=1e15)]  # what a broken video tells is not smaller than that
Rate = Annotated[float, Meta(ge=0, le=100_000)]
