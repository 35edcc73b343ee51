"""The clip that is measured: read by the pipeline's own reader in all loops."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import msgspec

from bench.job import ClipInfo, Job
from pipeline.errors import UserError
from pipeline.sources import SourceSpec, parse_sources
from stages.capture.reader import Picture, Reader, SourceFailed, open_reader


class Clip:
    """A source's frames, played again until there are as many as asked for."""

    def __init__(self, reader: Reader, spec: SourceSpec) -> None:
        self.spec = spec
        self.info = reader.info
        self._reader = reader

    def read(self) -> Picture | None:
        """Return the next picture, None at the end. Raises UserError for a clip that is cut off."""
        try:
            return self._reader.read()
        except SourceFailed as error:
            raise UserError(f"bench: {error}; a whole clip is needed") from error


@contextmanager
def open_clip(job: Job, *, threads: int, repeat: int = 0) -> Iterator[Clip]:
    """Open the job's source. Its first frame is decoded by now, as in the pipeline's capture."""
    spec = parse_sources([job.source])[0]
    settings = msgspec.structs.replace(
        job.settings.capture, repeat=repeat, max_frames=job.frames, threads=threads
    )
    with closing(open_reader(spec, settings)) as reader:
        yield Clip(reader, spec)


def run(job: Job) -> ClipInfo:
    """Count the frames of one pass, up to as many as are asked for."""
    with open_clip(job, threads=1, repeat=1) as clip:
        frames = 0
        while clip.read() is not None:
            frames += 1
        return ClipInfo(frames, clip.info.width, clip.info.height)
