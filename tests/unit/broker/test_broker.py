"""The broker's decisions, without sockets: messages and the time go in, messages to send come out."""

import pytest

from pipeline.broker.state import Outgoing
from pipeline.config.schema import BrokerSettings
from pipeline.wire.messages import (
    Accept,
    Commit,
    Committed,
    Delivery,
    Died,
    End,
    EndOfSource,
    Goodbye,
    Grant,
    Heartbeat,
    MessageError,
    Refused,
    RequestHello,
    SourceEnded,
    StatusReport,
    StepFailed,
    StopCapture,
    StopRequest,
    Work,
)
from tests.support.broker_steps import classify_all, detect_all, report, send_frames, write_all
from tests.support.broker_world import (
    World,
    classified,
    detected,
    make_broker,
    make_frame,
    make_no_frame,
    make_source,
    pixels,
)


def test_a_frame_goes_through_and_its_record_is_published() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0)
    assert detect_all(world, faces=2) == 1
    assert classify_all(world) == [2]
    (delivery,) = write_all(world)
    assert (delivery.sequence, delivery.status, delivery.items) == (0, "ok", 2)
    assert world.published == [b'{"frame":0}']
    (source,) = report(world).sources
    assert (source.captured, source.in_flight, source.committed) == (1, 0, Committed(1, ok=1))


def test_nothing_flows_before_the_supervisor_is_there() -> None:
    """It would hear nothing of a run of a few frames, and take the ends of its processes for deaths."""
    world = World(supervised=False)
    world.join_all()
    assert world.take("clip", Grant) == []
    world.join("supervisor", "elsewhere", instance="elsewhere")
    assert world.take("clip", Grant) == []
    world.join("supervisor", "supervisor")
    assert len(world.take("clip", Grant)) == 1


def test_nothing_flows_before_every_source_and_every_role_is_there() -> None:
    world = World(make_broker(sources=["clip", "other"]))
    world.join_all(make_source("clip"))
    assert world.take("clip", Grant) == []
    world.join("capture", "other", source=make_source("other"))
    assert [grant.credits for grant in world.take("clip", Grant)] == [4]


def test_parent_hears_of_the_start_before_the_next_report_is_due() -> None:
    world = World(make_broker(sources=["clip"]))
    world.join("supervisor", "supervisor")
    world.pass_time(1)
    assert [report.started for report in world.take("supervisor", StatusReport)] == [False]
    world.join_all()
    world.pass_time(1)
    assert [report.started for report in world.take("supervisor", StatusReport)] == [True]


def test_captures_wait_for_display_to_say_what_is_written() -> None:
    world = World()
    world.join("capture", "clip", source=make_source())
    assert world.take("clip", Accept) == []
    world.join("display", "display", credits=8, committed={"clip": Committed(7, ok=6, failed=1)})
    (accept,) = world.take("clip", Accept)
    assert accept.next_sequence == 7


def test_a_frame_without_faces_skips_classification() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0)
    detect_all(world, faces=0)
    assert classify_all(world) == []
    assert [d.status for d in write_all(world)] == ["ok"]


def test_outcomes_are_delivered_in_order() -> None:
    world = World()
    world.join_all(detect_credits=4)
    send_frames(world, 0, 1, 2)
    work = world.take("detect", Work)
    for item in reversed(work):
        world.give("detect", *detected(item, 0))
    assert [d.sequence for d in write_all(world)] == [0, 1, 2]


def test_crops_gather_across_frames_and_sources_while_the_classifier_is_busy() -> None:
    world = World()
    world.join_all(make_source("a"), make_source("b"), detect_credits=4)
    send_frames(world, 0, source="a")
    detect_all(world, faces=1)
    send_frames(world, 1, source="a")
    send_frames(world, 0, source="b")
    detect_all(world, faces=3)
    assert classify_all(world) == [1, 6]


def test_more_faces_than_a_batch_holds_are_split_and_put_together() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0)
    detect_all(world, faces=19)
    assert classify_all(world) == [8, 8, 3]
    (delivery,) = write_all(world)
    assert delivery.items == 19


def test_a_worker_is_sent_no_more_than_its_credits() -> None:
    world = World()
    world.join_all(detect_credits=2)
    send_frames(world, 0, 1, 2, 3)
    assert len(world.take("detect", Work)) == 2


def test_a_file_has_a_window_that_moves_as_records_are_written() -> None:
    world = World()
    world.join_all()
    assert [grant.credits for grant in world.take("clip", Grant)] == [4]
    send_frames(world, 0, 1, 2, 3)
    detect_all(world, faces=0)
    assert world.take("clip", Grant) == []
    write_all(world)
    assert sum(grant.credits for grant in world.take("clip", Grant)) == 4


def test_what_the_broker_holds_is_bounded_in_bytes() -> None:
    frame_bytes = 3 * 4 * 2
    world = World(make_broker(settings=BrokerSettings(max_bytes=2 * frame_bytes)))
    world.join_all()
    assert sum(grant.credits for grant in world.take("clip", Grant)) == 2


@pytest.mark.parametrize("how", ["died", "silent", "unreachable", "replaced"])
def test_the_frames_of_a_dead_worker_are_tried_again(how: str) -> None:
    world = World()
    world.join("supervisor", "supervisor")
    world.join_all()
    send_frames(world, 0)
    world.take("detect", Work)
    if how == "died":
        world.give("supervisor", Died("run/detect"))
    elif how == "unreachable":
        world.broker.unreachable(b"detect", world.now_ns)
    elif how == "silent":
        world.wait(12, silent="detect")
    if how == "replaced":
        world.join("detect", "new", instance="run/detect", credits=2)
    else:
        world.join("detect", "new", credits=2)
    assert detect_all(world, worker="new", faces=0) == 1
    assert [d.status for d in write_all(world)] == ["ok"]


@pytest.mark.parametrize("frames", [0, 1])
def test_a_lost_worker_is_in_the_log_only_if_it_held_work(frames: int) -> None:
    """At the end of a refused run, workers that have just said hello are stopped: that is no news."""
    world = World()
    world.join_all()
    send_frames(world, *range(frames))
    world.log_lines.clear()
    world.broker.unreachable(b"detect", world.now_ns)
    world.drain()
    assert len(world.log_lines) == frames


def test_a_late_answer_is_known_and_ignored() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0)
    (late,) = world.take("detect", Work)
    world.broker.unreachable(b"detect", world.now_ns)
    world.join("detect", "new", credits=2)
    world.give("detect", *detected(late, 5))
    assert world.take("detect", RequestHello)
    world.join("detect", "detect", credits=2, instance="another")
    world.give("detect", *detected(late, 5))
    detect_all(world, faces=1, worker="new")
    detect_all(world, faces=1)
    classify_all(world)
    (delivery,) = write_all(world)
    assert delivery.items == 1


def test_a_late_answer_does_not_answer_newer_work() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0)
    (late,) = world.take("detect", Work)
    world.join("detect", "detect", credits=2)  # after a broken connection: it is sent its frame again
    (again,) = world.take("detect", Work)
    world.give("detect", *detected(late, 5))
    world.give("detect", *detected(again, 1))
    classify_all(world)
    (delivery,) = write_all(world)
    assert delivery.items == 1


def test_an_answer_to_another_broker_is_ignored() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0)
    (work,) = world.take("detect", Work)
    world.give("detect", *detected(work, 5, broker="broker-before"))
    assert write_all(world) == []


def test_a_frame_that_kills_every_worker_fails_and_the_others_do_not() -> None:
    world = World()
    world.join_all(detect_credits=2)
    send_frames(world, 0, 1, 2)
    worker, company = "detect", []
    while pending := world.take(worker, Work):
        jobs = world.broker.state.peers.get(worker.encode()).jobs  # type: ignore[union-attr]
        deadly = [item for item in pending if jobs[item.work].frames[0].sequence == 1]
        for item in pending:
            if item not in deadly:
                world.give(worker, *detected(item, 0))
        if deadly:
            company.append(len(pending))
            assert len(company) <= 3, "it is tried without end"
            world.broker.unreachable(worker.encode(), world.now_ns)
            worker = f"worker-{len(company)}"
            world.join("detect", worker, credits=2)
    assert company == [2, 1, 1], "once in company, twice alone"
    assert [d.status for d in write_all(world)] == ["ok", "failed", "ok"]


def test_the_batch_of_a_dead_classifier_is_tried_frame_by_frame() -> None:
    world = World()
    world.join_all(detect_credits=4)
    send_frames(world, 0)
    detect_all(world, faces=1)
    send_frames(world, 1, 2)
    detect_all(world, faces=2)
    (first,) = world.take("classify", Work)
    world.give("classify", *classified(first, 1))
    assert [w.items for w in world.take("classify", Work)] == [4]
    world.broker.unreachable(b"classify", world.now_ns)
    world.join("classify", "new", credits=1)
    assert classify_all(world, "new") == [2, 2]
    assert [d.status for d in write_all(world)] == ["ok"] * 3


def test_classifier_that_says_hello_again_gets_its_faces_once() -> None:
    """After a broken connection its process is the same, and so is its place."""
    world = World()
    world.join_all()
    send_frames(world, 0)
    detect_all(world, faces=2)
    assert len(world.take("classify", Work)) == 1
    world.pass_time(1_000)
    world.join("classify", "classify", credits=1)
    assert classify_all(world) == [2]
    (delivery,) = write_all(world)
    assert (delivery.status, delivery.items) == ("ok", 2)


def test_a_step_that_fails_fails_its_frame_only() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0, 1)
    first, _ = world.take("detect", Work)
    world.give("detect", StepFailed(first.broker, first.work, "bad picture"))
    world.broker.unreachable(b"detect", world.now_ns)
    world.join("detect", "new", credits=2)
    detect_all(world, worker="new", faces=0)
    assert [(d.status, d.reason) for d in write_all(world)] == [("failed", "bad picture"), ("ok", "")]


def test_nobody_is_given_up_for_the_broker_s_own_sleep() -> None:
    world = World()
    world.join_all()
    world.now_ns += 60_000_000_000
    world.broker.slept(60_000_000_000)
    world.pass_time(100)
    assert world.log_lines == []


def test_a_new_display_gets_what_was_not_written() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0, 1)
    detect_all(world, faces=0)
    first, _ = world.take("display", Delivery)
    world.give("display", Commit("clip", Committed(1), [5], 5), [b"{}"])
    assert first.sequence == 0
    world.broker.unreachable(b"display", world.now_ns)
    world.join("display", "new", credits=8, committed={"clip": Committed(1, ok=1)})
    assert [d.sequence for d in write_all(world, "new")] == [1]


def test_a_second_display_a_second_capture_and_another_model_are_refused() -> None:
    world = World()
    world.join_all()
    world.join("display", "display-2", credits=8)
    world.join("capture", "thief", source=make_source("clip"))
    world.join("classify", "classify-a", credits=1, fingerprint="model a")
    world.join("classify", "classify-b", credits=1, fingerprint="model b")
    world.join("detect", "old", credits=1, protocol=0)
    for peer in ("display-2", "thief", "classify-b", "old"):
        assert len(world.take(peer, Refused)) == 1, peer
    assert world.take("classify-a", Refused) == []


def test_another_model_or_other_labels_are_reported_with_what_to_do() -> None:
    world = World()
    world.join("classify", "here", credits=1, fingerprint="small 21cd consensus")
    world.join("classify", "there", credits=1, fingerprint="small 21cd fer2013")
    world.join("detect", "eyes", credits=1, fingerprint="yunet ebaf")
    world.join("detect", "others", credits=1, fingerprint="haar 0f1c")
    (labels,), (detector,) = world.take("there", Refused), world.take("others", Refused)
    assert "expected small 21cd consensus, found small 21cd fer2013" in labels.reason
    assert "use the same file and classify.labels on every machine" in labels.reason
    assert "use the same file on every machine" in detector.reason


def test_an_unknown_peer_is_asked_to_introduce_itself() -> None:
    world = World()
    world.give("stranger", Heartbeat())
    assert len(world.take("stranger", RequestHello)) == 1
    world.give("stranger", Goodbye())
    assert world.take("stranger", RequestHello) == []


def test_a_message_that_is_not_its_role_s_is_counted_and_ignored() -> None:
    world = World()
    world.join_all()
    world.give("classify", StopRequest("mischief"))
    world.join("classify", "classify", credits=1)
    world.give("classify", Died("run/detect"))
    frame = make_frame(0, "clip")
    world.give("detect", frame, [pixels(frame)])
    found = report(world)
    assert (found.bad_messages, found.stopping, found.sources[0].captured) == (3, "", 0)


def test_repeats_and_gaps_of_a_capture_are_ignored() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0, 0, 2, 1)
    assert report(world).sources[0].captured == 2


# ------------------------------------------------------------------------------------------------- live


def live_world(**broker: object) -> World:
    world = World(make_broker(**broker))
    world.join_all(make_source("cam", "live"))
    return world


def test_the_newest_live_frame_wins_and_the_others_are_counted() -> None:
    world = live_world()
    send_frames(world, 0, 1, 2, 3, source="cam")
    assert detect_all(world, faces=0) == 2  # the first went at once, the newest waited in the mailbox
    records = [(d.sequence, d.status, d.reason) for d in write_all(world)]
    dropped = ("dropped", "superseded")
    assert records == [(0, "ok", ""), (1, *dropped), (2, *dropped), (3, "ok", "")]


def test_a_live_frame_is_answered_by_a_credit_at_once() -> None:
    world = live_world()
    assert sum(g.credits for g in world.take("cam", Grant)) == 2
    send_frames(world, 0, source="cam")
    assert sum(g.credits for g in world.take("cam", Grant)) == 1


def test_a_live_frame_that_waited_too_long_is_dropped() -> None:
    world = live_world()
    send_frames(world, 0, 1, source="cam")
    world.pass_time(600)
    detect_all(world, faces=0)
    assert [(d.status, d.reason) for d in write_all(world)] == [("ok", ""), ("dropped", "stale")]


def test_frames_dropped_by_capture_have_their_record_in_order() -> None:
    world = live_world()
    send_frames(world, 0, source="cam")
    world.give("cam", make_no_frame(1, "cam"))
    send_frames(world, 2, source="cam")
    detect_all(world, faces=0)
    assert [d.status for d in write_all(world)] == ["ok", "dropped", "ok"]


def test_a_display_that_hangs_makes_live_frames_drop_not_pile_up() -> None:
    world = live_world()
    for sequence in range(100):
        send_frames(world, sequence, source="cam")
        detect_all(world, faces=0)
    found = report(world)
    assert found.held_bytes <= 10 * 24
    assert len(world.take("display", Delivery)) == 8


# -------------------------------------------------------------------------------------------- the end


def test_the_run_ends_when_every_source_is_written() -> None:
    world = World(make_broker(sources=["clip"]))
    world.join_all()
    send_frames(world, 0)
    world.give("clip", SourceEnded("clip", 1, 1))
    detect_all(world, faces=0)
    assert not world.broker.finished
    write_all(world)
    assert [m.source for m in world.take("display", EndOfSource)] == ["clip"]
    for peer in ("display", "detect", "classify", "clip"):
        assert len(world.take(peer, End)) == 1
        world.give(peer, Goodbye())
    assert world.broker.finished
    assert not world.broker.peers_left


def test_frames_that_never_arrived_are_reported() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0)
    world.give("clip", SourceEnded("clip", 1, 3))
    assert report(world).sources[0].error == "clip: 3 frames were captured and 1 arrived"


def test_after_a_stop_what_is_under_way_is_finished() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0, 1)
    world.give("display", StopRequest("q"))
    assert world.take("clip", StopCapture)
    world.give("clip", SourceEnded("clip", 1, 2))
    detect_all(world, faces=0)
    assert [d.status for d in write_all(world)] == ["ok", "ok"]
    assert world.broker.finished


def test_after_a_stop_what_takes_too_long_is_dropped() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0, 1)
    world.give("display", StopRequest("SIGINT"))
    world.wait(2)
    world.pass_time(100)
    assert [(d.status, d.reason) for d in write_all(world)] == [("dropped", "stopped")] * 2
    assert world.broker.finished


def test_the_parent_can_end_a_source_whose_capture_is_lost() -> None:
    world = World(make_broker(sources=["clip"]))
    world.join("supervisor", "supervisor")
    world.join_all()
    send_frames(world, 0)
    world.give("supervisor", SourceEnded("clip", 0, 0, "clip: its capture process died 5 times"))
    detect_all(world, faces=0)
    write_all(world)
    assert world.broker.finished
    assert report(world).sources[0].error.startswith("clip: its capture")


# ------------------------------------------------------------------------------- restarts, one upon another


def test_sources_take_turns_at_a_display_that_is_the_bottleneck() -> None:
    world = World()
    world.join_all(make_source("a"), make_source("b"), detect_credits=8)
    written: list[str] = []
    following = {"a": 0, "b": 0}
    for _ in range(100):
        for source in "ab":
            for grant in world.take(source, Grant):
                send_frames(
                    world, *range(following[source], following[source] + grant.credits), source=source
                )
                following[source] += grant.credits
        detect_all(world, faces=0)
        first, *rest = world.take("display", Delivery)
        written.append(first.source)
        world.give("display", Commit(first.source, Committed(first.sequence + 1), [7], 5), [b"{}"])
        world.sent[b"display"][:0] = [Outgoing(b"display", delivery) for delivery in rest]
    assert 45 <= written.count("a") <= 55


def test_a_new_broker_waits_for_every_source_though_one_has_ended() -> None:
    world = World(make_broker(sources=["a", "b"]))
    world.join("display", "display", credits=8, committed={"a": Committed(3, ok=3)})
    world.join("detect", "detect", credits=2)
    world.join("classify", "classify", credits=1)
    world.join("capture", "a", source=make_source("a"))
    world.give("a", SourceEnded("a", 1, 3))
    assert not world.broker.finished
    world.join("capture", "b", source=make_source("b"))
    assert sum(grant.credits for grant in world.take("b", Grant)) == 4


def test_a_new_broker_hears_of_a_source_that_is_lost() -> None:
    world = World(make_broker(sources=["a", "b"]))
    world.join("supervisor", "supervisor")
    world.give("supervisor", SourceEnded("b", 0, 0, "b: its capture process died 5 times"))
    world.join_all(make_source("a"))
    assert world.take("a", Grant), "the run goes on without b"
    world.give("a", SourceEnded("a", 1, 0))
    assert world.broker.finished


def test_the_place_of_a_capture_that_left_can_be_taken() -> None:
    world = World()
    world.join_all()
    world.give("clip", Goodbye())
    world.join("capture", "clip-again", source=make_source("clip"))
    assert world.take("clip-again", Refused) == []
    assert len(world.take("clip-again", Accept)) == 1


def test_display_hears_what_a_capture_knows_to_be_written() -> None:
    world = World()
    world.join("display", "display", credits=8)
    world.take("display", Accept)
    known = Committed(7, ok=6, failed=1)
    world.join("capture", "clip", source=make_source(), committed={"clip": known})
    (accept,) = world.take("display", Accept)
    assert accept.committed == {"clip": known}


def test_an_answer_that_can_not_be_read_frees_its_work() -> None:
    world = World()
    world.join_all()
    send_frames(world, 0)
    world.take("detect", Work)
    world.broker.receive(b"detect", MessageError("no message"), (), world.now_ns)
    world.join("detect", "detect", credits=2)
    assert detect_all(world, faces=0) == 1


def test_a_batch_that_waits_for_a_worker_is_not_due() -> None:
    world = World(make_broker(max_delay_ms=5.0))
    world.join_all(detect_credits=4)
    send_frames(world, 0, 1)
    first, second = world.take("detect", Work)
    world.give("detect", *detected(first, 1))
    assert world.broker.due_ns() is not None
    world.pass_time(6)
    assert len(world.take("classify", Work)) == 1
    world.give("detect", *detected(second, 1))
    assert world.broker.due_ns() is None


def test_what_is_held_is_bounded_by_the_largest_picture_seen() -> None:
    small, large = 24, 24 * 100
    world = World(make_broker(settings=BrokerSettings(max_bytes=3 * large), file_window=8))
    world.join_all()
    send_frames(world, 0)
    frame = make_frame(1, shape=(20, 40, 3))
    world.give("clip", frame, [pixels(frame)])
    world.take("clip", Grant)
    detect_all(world, faces=0)
    write_all(world)
    assert small < large
    assert sum(grant.credits for grant in world.take("clip", Grant)) <= 3
