"""Opens the source that is asked for."""

from pipeline.config.sources import SourceSpec
from stages.capture.reader import MAX_BYTES, Reader
from stages.capture.spec import CaptureSettings


def open_reader(spec: SourceSpec, settings: CaptureSettings, max_bytes: int = MAX_BYTES) -> Reader:
    """Open a source, whose pictures may have so many bytes. Raises UserError if it does not open or has no
    frame."""
    # Each form is imported when it is needed: they need nothing of each other.
    if spec.form == "camera":
        from stages.capture.sources.camera import CameraReader

        return CameraReader(spec, settings)
    if spec.form == "stream":
        from stages.capture.sources.stream import StreamReader

        return StreamReader(spec, settings, max_bytes)
    from stages.capture.sources.repeat import RepeatingReader

    plays = settings.repeat, settings.max_frames
    if spec.form == "video":
        from stages.capture.sources.video import VideoReader

        return RepeatingReader(lambda: VideoReader(spec, settings.threads, max_bytes), *plays)
    if spec.form == "folder":
        from stages.capture.sources.images import FolderReader

        return RepeatingReader(lambda: FolderReader(spec, max_bytes), *plays)
    from stages.capture.sources.demo import DemoReader

    return RepeatingReader(lambda: DemoReader(spec), *plays)
