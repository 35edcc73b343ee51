"""What the workers and the display of a `World` answer."""

from pipeline.wire.messages import Commit, Committed, Delivery, StatusReport, Work
from tests.support.broker_world import World, classified, detected, make_frame, pixels


def send_frames(world: World, *sequences: int, source: str = "clip", epoch: int = 1) -> None:
    for sequence in sequences:
        frame = make_frame(sequence, source, epoch)
        world.give(source, frame, [pixels(frame)])


def detect_all(world: World, faces: int = 1, worker: str = "detect") -> int:
    """Answer all the work that a detector has; return how much it was."""
    done = 0
    while work := world.take(worker, Work):
        for item in work:
            world.give(worker, *detected(item, faces))
            done += 1
    return done


def classify_all(world: World, worker: str = "classify") -> list[int]:
    """Answer all the batches of a classifier; return their sizes."""
    sizes = []
    while work := world.take(worker, Work):
        for item in work:
            world.give(worker, *classified(item))
            sizes.append(item.items)
    return sizes


def write_all(world: World, display: str = "display") -> list[Delivery]:
    """Have display write all that it is delivered; return that."""
    written: list[Delivery] = []
    while deliveries := world.take(display, Delivery):
        for item in deliveries:
            written.append(item)
            record = b'{"frame":%d}' % item.sequence
            world.give(display, Commit(item.source, Committed(item.sequence + 1), [7], 5), [record])
    return written


def report(world: World) -> StatusReport:
    if world.broker is not None and not world.sent.get(b"supervisor"):
        world.join("supervisor", "supervisor")
    world.take("supervisor", StatusReport)
    world.pass_time(300)
    return world.take("supervisor", StatusReport)[-1]  # type: ignore[no-any-return]
