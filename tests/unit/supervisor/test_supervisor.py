"""What the supervisor decides when processes end, the broker reports, signals arrive, and time passes."""

import signal

import pytest

from pipeline.config.schema import RunSettings
from pipeline.supervisor.child_main import LATE_STATUS
from pipeline.supervisor.supervisor import BROKER_START_S, FINISH_S, MAX_ERRORS, SILENT_S
from pipeline.wire.messages import (
    Committed,
    Died,
    PeerReport,
    QueueReport,
    RequestHello,
    SourceEnded,
    StopRequest,
)
from tests.support.supervisor_world import SOURCE, World, make_source_report

KILLED = -signal.SIGKILL
DETECT_ONLY = frozenset({"detect"})
FAR = PeerReport("detect-2@attic", "detect-2@attic", "detect", 0.1, False, remote=True)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def begun(world: World) -> World:
    world.begin()
    return world


# ------------------------------------------------------------------------------------------ the start


def test_one_process_is_started_a_tick_so_that_a_signal_is_obeyed_in_between(world: World) -> None:
    world.supervisor.tick(world.now_s)
    world.drain()
    assert world.started == ["broker"]
    world.supervisor.signal(signal.SIGINT, world.now_s)
    world.pass_time(1.0)
    assert world.started == ["broker"]
    assert world.over and world.status == 130


def test_all_are_started_and_ready_is_logged_when_every_one_has_joined(world: World) -> None:
    world.pass_time()
    assert world.started == world.names
    *most, last = world.stages
    world.report(*most, started=True)
    assert world.take("lines") == ["results are published at ipc://run/results"]
    world.report(*most, last, started=True)
    world.report(*most, last, started=True)
    assert world.take("lines") == ["all stages are ready"]


def test_a_host_that_joins_a_run_is_ready_when_its_own_stages_are() -> None:
    world = World(only=DETECT_ONLY)
    assert world.take("lines") == ["works for the broker at ipc://run/work"]
    world.pass_time()
    others = [world.peer(name, instance=name) for name in ("display", "classify-1", "capture-1")]
    world.report(others=others, started=True)
    assert world.lines == []
    world.wait(5.0)
    assert world.take("lines") == ["waiting for detect-1, detect-2"]
    world.report("detect-1", "detect-2", started=True)
    assert world.take("lines") == ["all stages are ready"]


def test_what_is_waited_for_is_logged_ever_more_rarely(world: World) -> None:
    world.pass_time()
    world.wait(21.0)
    assert world.take("lines") == ["waiting for the broker"] * 3
    world.report("display", "detect-1", "detect-2", "capture-1")
    world.wait(10.0)
    assert world.take("lines")[-1] == "error: classify-1 not ready within 30 s (run.start_timeout_s)"
    assert world.over and world.status == 2


def test_a_stage_of_another_machine_is_waited_for_without_end() -> None:
    world = World(only=frozenset({"broker", "detect"}))
    world.pass_time()
    world.report("detect-1", "detect-2")
    world.wait(1_000.0)
    assert world.take("lines")[-1] == "waiting for display, classify, capture"
    assert not world.over


@pytest.mark.parametrize("name", ["detect-1", "capture-1", "display"])
def test_a_start_that_is_refused_ends_the_run_with_2(world: World, name: str) -> None:
    world.pass_time()
    world.end(name, 2)
    assert world.over and world.status == 2


def test_a_worker_refused_by_a_run_that_has_begun_elsewhere_ends_its_host_with_2() -> None:
    world = World(only=DETECT_ONLY)
    world.pass_time()
    world.report(started=True)
    world.end("detect-1", 2)
    assert world.over and world.status == 2


def test_a_refused_supervisor_ends_with_2_before_the_first_frame_and_with_1_after_it(world: World) -> None:
    world.supervisor.refused("the broker refuses the key 'supervisor'")
    world.pass_time()
    assert world.over and world.status == 2 and world.started == []
    assert world.take("lines") == ["error: the broker refuses the key 'supervisor'"]
    world = World()
    world.begin()
    world.supervisor.refused("the broker refuses the key 'supervisor'")
    assert world.over and world.status == 1


def test_handshakes_that_fail_in_a_row_are_a_key_mismatch_and_logged_once(world: World) -> None:
    for count in (1, 2, 3, 4):
        world.supervisor.handshakes_failed(count)
    world.drain()
    assert len(world.lines) == 1 and "broker key mismatch" in world.lines[0]
    assert not world.over


# ------------------------------------------------------------------------------------------ deaths


def test_a_dead_process_is_reported_to_the_broker_and_started_again_with_a_back_off(begun: World) -> None:
    begun.end("detect-1", KILLED, after_s=5.0)
    assert begun.take("sent") == [Died("run/detect-1")]
    assert begun.take("started") == ["detect-1"]
    assert begun.take("lines") == ["warning: detect-1 died (signal SIGKILL); it is started again now"]
    begun.end("detect-1", 1, after_s=1.0)
    assert begun.take("lines") == ["warning: detect-1 died (status 1); it is started again in 0.5 s"]
    begun.pass_time(0.4)
    assert begun.take("started") == []
    begun.pass_time(0.2)
    assert begun.take("started") == ["detect-1"]


def test_a_role_that_dies_again_and_again_without_progress_ends_the_run(begun: World) -> None:
    for _ in range(4):
        begun.end("detect-1", KILLED, after_s=1.0)
        begun.wait(5.0)
    assert not begun.over
    begun.end("detect-2", KILLED, after_s=1.0)
    assert begun.over and begun.status == 1
    assert begun.lines[-1] == "error: detect died 5 times without progress"


def test_frames_written_in_between_forgive_deaths(begun: World) -> None:
    for written in range(1, 10):
        begun.end("detect-1", KILLED, after_s=1.0)
        begun.wait(5.0)
        begun.report(*begun.stages, started=True, sources=[make_source_report(written)])
    assert not begun.over


def test_a_capture_that_dies_again_and_again_ends_its_source_alone() -> None:
    world = World(RunSettings(max_restarts=2))
    world.begin()
    world.end("capture-1", KILLED, after_s=1.0)
    world.end("capture-1", KILLED, after_s=1.0)
    error = f"{SOURCE}: its capture process died 2 times"
    ended = SourceEnded(SOURCE, 0, 0, error)
    assert world.take("sent") == [Died("run/capture-1")] * 2 + [ended]
    assert world.lines[-1] == f"error: {error}"
    assert not world.over
    world.supervisor.receive(RequestHello(), world.now_s)  # a new broker knows nothing of it
    world.drain()
    assert world.take("sent") == [ended]


def test_before_the_first_frame_it_ends_the_run() -> None:
    world = World(RunSettings(max_restarts=1))
    world.pass_time()
    world.end("capture-1", KILLED)
    assert world.over and world.status == 1
    assert world.lines[-1] == "error: capture died 1 times without progress"


@pytest.mark.parametrize(("name", "status"), [("display", LATE_STATUS), ("detect-1", LATE_STATUS)])
def test_an_error_that_a_restart_would_repeat_ends_the_run_with_1(
    begun: World, name: str, status: int
) -> None:
    begun.end(name, status)
    assert begun.over and begun.status == 1


def test_a_worker_that_replaces_another_and_fails_is_a_death(begun: World) -> None:
    begun.end("detect-1", KILLED)
    begun.end("detect-1", LATE_STATUS, after_s=1.0)
    assert not begun.over and "started again" in begun.lines[-1]


# ------------------------------------------------------------------------------------------ hung processes


def test_what_the_broker_gives_up_is_killed(begun: World) -> None:
    begun.report("display", others=[begun.peer("detect-1", timed_out=True)], started=True)
    assert begun.killed == ["detect-1"]
    assert begun.lines == ["warning: detect-1 hangs and is killed"]


def test_a_replacement_that_hangs_before_its_hello_is_killed(begun: World) -> None:
    begun.end("detect-1", KILLED)
    begun.report(*(name for name in begun.stages if name != "detect-1"), started=True)
    begun.wait(29.0)
    assert begun.killed == []
    begun.wait(1.5)
    assert set(begun.killed) == {"detect-1"}


def test_a_second_worker_that_hangs_before_its_first_hello_is_killed_once_frames_flow(world: World) -> None:
    world.pass_time()
    world.report(*(name for name in world.stages if name != "detect-2"), started=True)
    world.wait(31.0)
    assert set(world.killed) == {"detect-2"} and not world.over


def test_a_silent_broker_is_killed_and_a_new_one_has_time_to_start(begun: World) -> None:
    begun.pass_time(1.6)
    assert begun.take("killed") == ["broker"]
    assert begun.take("lines") == ["warning: the broker has been silent for 2 s and is killed"]
    begun.end("broker", KILLED)
    assert begun.take("started") == ["broker"]
    begun.pass_time(BROKER_START_S - 1)
    assert begun.take("killed") == []
    begun.pass_time(2.0)
    assert begun.take("killed") == ["broker"]


def test_a_broker_that_was_replaced_is_not_taken_for_one_that_never_joins(begun: World) -> None:
    """It is known by its reports: 30 s after its start it was killed for lack of a hello."""
    begun.end("broker", KILLED)
    begun.report(*begun.stages, started=True, broker="b-2")
    begun.wait(40.0)
    assert begun.killed == []


def test_a_silent_broker_of_another_machine_is_waited_for() -> None:
    world = World(only=DETECT_ONLY)
    world.begin()
    world.pass_time(3.0)
    assert world.take("lines") == ["warning: the broker has been silent for 3 s; waiting for it"]
    world.report("detect-1", "detect-2", started=True)
    assert world.take("lines") == ["the broker is back"]
    assert world.killed == []


# ------------------------------------------------------------------------------------------ the end


def test_a_run_that_completes_ends_with_0(begun: World) -> None:
    begun.report(started=True, finished=True, sources=[make_source_report(5, ended=True)])
    for name in begun.names:
        begun.end(name, 0)
    assert begun.supervisor.all_done and begun.over
    assert begun.supervisor.exit_status(incomplete=False) == 0
    assert begun.supervisor.exit_status(incomplete=True) == 1


def test_a_stage_that_ends_before_the_report_of_the_end_is_no_death(begun: World) -> None:
    begun.end("detect-1", 0)
    begun.pass_time(FINISH_S / 2)
    begun.report(started=True, finished=True)
    assert begun.take("sent") == [] and begun.take("lines") == []
    assert begun.supervisor.children["detect-1"].phase == "done"


def test_a_stage_that_ends_with_0_in_the_middle_of_a_run_is_a_death(begun: World) -> None:
    begun.end("detect-1", 0)
    begun.pass_time(2 * FINISH_S)
    assert begun.take("sent") == [Died("run/detect-1")]
    assert begun.take("started") == ["detect-1"]


def test_stages_that_are_not_ready_at_the_end_are_dismissed(begun: World) -> None:
    begun.end("detect-1", KILLED)  # its successor has not joined when the run finishes
    begun.report(started=True, finished=True)
    assert begun.stopped == ["detect-1"]
    begun.end("detect-1", -signal.SIGTERM)
    assert begun.lines == ["warning: detect-1 died (signal SIGKILL); it is started again now"]


@pytest.mark.parametrize(("name", "status"), [("display", 1), ("detect-1", 0)])
def test_only_display_makes_the_end_incomplete(begun: World, name: str, status: int) -> None:
    begun.report(started=True, finished=True)
    begun.end(name, KILLED)
    assert begun.lines == [f"warning: {name} did not end cleanly (signal SIGKILL)"]
    assert begun.supervisor.exit_status(incomplete=False) == status


@pytest.mark.parametrize(("name", "status"), [("display", 1), ("detect-1", 0)])
def test_what_had_to_be_killed_at_the_end_is_logged(begun: World, name: str, status: int) -> None:
    begun.report(started=True, finished=True)
    begun.supervisor.killed([name])
    begun.drain()
    assert begun.lines == [f"warning: {name} did not end in time and was killed"]
    assert begun.supervisor.exit_status(incomplete=False) == status


def test_stages_that_do_not_leave_after_the_end_are_not_waited_for_without_end(begun: World) -> None:
    begun.report(started=True, finished=True)
    begun.pass_time(4.9)
    assert not begun.over
    begun.pass_time(0.2)
    assert begun.over


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_asks_the_broker_for_the_end(begun: World, number: int, status: int) -> None:
    begun.supervisor.signal(number, begun.now_s)
    begun.drain()
    assert begun.take("sent") == [StopRequest(signal.Signals(number).name)]
    assert not begun.over
    begun.supervisor.receive(RequestHello(), begun.now_s)  # a new broker is asked as well
    begun.drain()
    assert begun.take("sent") == [StopRequest(signal.Signals(number).name)]
    begun.pass_time(7.1)  # frames under way, then the stages' ends
    assert begun.over and begun.supervisor.exit_status(incomplete=False) == status


def test_the_second_signal_ends_the_run_at_once(begun: World) -> None:
    begun.supervisor.signal(signal.SIGTERM, begun.now_s)
    begun.supervisor.signal(signal.SIGINT, begun.now_s)
    assert begun.over and begun.supervisor.ending.at_once
    begun.supervisor.killed(["display"])
    begun.drain()
    assert begun.lines == []
    assert begun.supervisor.exit_status(incomplete=False) == 143


def test_a_signal_before_the_start_is_reported_ends_in_order(world: World) -> None:
    """Frames may be on their way by then: the run has started, and the report of that is not here yet."""
    world.pass_time()
    world.report()
    world.supervisor.signal(signal.SIGINT, world.now_s)
    world.drain()
    assert world.take("sent") == [StopRequest("SIGINT")] and not world.over


def test_a_signal_on_a_host_without_the_broker_ends_it_at_once() -> None:
    world = World(only=DETECT_ONLY)
    world.begin()
    world.supervisor.signal(signal.SIGINT, world.now_s)
    assert world.over and world.status == 130
    assert world.sent == []


def test_a_run_that_is_stopped_ends_with_its_broker(begun: World) -> None:
    begun.supervisor.signal(signal.SIGINT, begun.now_s)
    begun.end("broker", KILLED)
    assert begun.over


def test_q_in_the_window_ends_the_run_with_0(begun: World) -> None:
    begun.report(*begun.stages, started=True, stopping="q")
    begun.drain()
    assert begun.take("sent") == [StopRequest("q")]
    begun.report(started=True, finished=True)
    assert begun.supervisor.exit_status(incomplete=False) == 0


def test_a_source_that_ended_early_or_frames_that_failed(begun: World) -> None:
    sources = [make_source_report(ended=True, error="cut off")]
    begun.report(started=True, finished=True, sources=sources)
    assert begun.supervisor.exit_status(incomplete=False) == 1
    sources = [make_source_report(ended=True, committed=Committed(3, 1, 2))]
    begun.report(started=True, finished=True, sources=sources)
    assert begun.supervisor.exit_status(incomplete=False) == 0
    begun.drain()
    assert begun.lines == ["warning: 2 frames failed; the results say why"]


# ------------------------------------------------------------------------------------------ lines


def test_one_cause_at_the_start_is_one_line(world: World) -> None:
    world.pass_time()
    world.supervisor.child_line("detect-1", "error: no such detector")
    world.supervisor.child_line("detect-2", "error: no such detector for me either")
    world.supervisor.child_line("display", "12:00:00 display: not an error")
    world.drain()
    assert world.lines == ["error: no such detector", "12:00:00 display: not an error"]


def test_a_new_error_on_the_way_is_shown_and_not_repeated_by_the_next_process(begun: World) -> None:
    begun.supervisor.child_line("detect-1", "error: first")
    begun.end("detect-1", KILLED)
    begun.take("lines")
    begun.supervisor.child_line("detect-1", "error: second")
    begun.supervisor.child_line("detect-1", "error: first")
    begun.drain()
    assert begun.lines == ["error: second"]


def test_nothing_that_is_remembered_grows_over_months(begun: World) -> None:
    """Ever new errors, new brokers, and new stages of other machines."""
    for number in range(1000):
        begun.supervisor.child_line("detect-1", f"error: no {number}")
        other = PeerReport(f"instance-{number}", f"detect-{number}", "detect", 0.1, False)
        begun.now_s += 20.0
        begun.report(*begun.stages, others=[other], broker=f"broker-{number}", started=True, elapsed_s=2.0)
    supervisor = begun.supervisor
    assert len(supervisor._errors) == MAX_ERRORS
    assert supervisor._watchdog.joined == {f"run/{name}" for name in begun.stages}
    assert len(supervisor.broker.others) == 1
    assert supervisor.elapsed_s == 1.0 + 2.0 * 1000


# ------------------------------------------------------------------------------------- other machines


def test_stages_of_other_machines_are_announced(begun: World) -> None:
    begun.report(*begun.stages, others=[FAR], started=True)
    begun.report(*begun.stages, others=[FAR], started=True)
    assert begun.take("lines") == ["detect-2@attic has joined"]
    begun.report(*begun.stages, started=True)
    assert begun.take("lines") == ["detect-2@attic has left"]


def test_stages_of_other_machines_join_a_new_broker(begun: World) -> None:
    begun.report(*begun.stages, others=[FAR], started=True)
    begun.take("lines")
    begun.report(*begun.stages, started=True, broker="b-2")
    assert begun.lines == []
    begun.report(*begun.stages, others=[FAR], started=True, broker="b-2")
    assert begun.lines == ["detect-2@attic has joined"]


def test_a_host_without_the_broker_announces_nobody() -> None:
    world = World(only=DETECT_ONLY)
    world.begin()
    world.report("detect-1", "detect-2", others=[FAR], started=True)
    assert world.lines == []


@pytest.mark.parametrize(
    ("gone", "missing"),
    [
        ([], ""),
        (["detect-1"], ""),
        (["detect-1", "detect-2"], "detect-1, detect-2"),
        (["classify-1", "capture-1"], "classify-1, capture-1"),
    ],
)
def test_a_role_that_is_gone_in_the_middle_of_a_run_is_named(
    begun: World, gone: list[str], missing: str
) -> None:
    present = [name for name in begun.stages if name not in gone]
    begun.report(*present, started=True, sources=[make_source_report()])
    assert begun.supervisor.waiting_for() == missing


def test_a_role_of_another_machine_that_is_gone_or_silent_is_named() -> None:
    world = World(only=frozenset({"broker", "display", "classify", "capture"}))
    world.begin(others=[FAR])
    assert world.supervisor.waiting_for() == ""
    silent = PeerReport("far", "detect-2@attic", "detect", SILENT_S + 1, False, remote=True)
    for others in ([], [silent]):
        world.report(*world.stages, others=others, started=True)
        assert world.supervisor.waiting_for() == "detect"


def test_a_capture_whose_sources_have_ended_is_not_waited_for(begun: World) -> None:
    present = [name for name in begun.stages if name != "capture-1"]
    begun.report(*present, started=True, sources=[make_source_report(ended=True)])
    assert begun.supervisor.waiting_for() == ""


# ------------------------------------------------------------------------------------------ a cluster


@pytest.fixture
def cluster() -> World:
    """A run that has begun, whose detectors are placed by an engine."""
    world = World(placed=True)
    world.pass_time()
    assert "detect-2" not in world.take("started")
    world.report(*(name for name in world.stages if name != "detect-2"), started=True)
    world.take("lines")
    return world


def late(world: World, *present: str) -> None:
    """Let the broker report for two seconds that frames wait for a detector."""
    for _ in range(8):
        world.now_s += 0.25
        world.report(*present, started=True, queues={"detect": QueueReport(4, 0.5)})


def test_a_process_is_added_where_its_role_is_late_and_taken_away_when_idle(cluster: World) -> None:
    present = [name for name in cluster.stages if name != "detect-2"]
    late(cluster, *present)
    assert cluster.take("lines") == ["detect-2 is added: detect is late"]
    assert cluster.take("started") == ["detect-2"]
    for _ in range(60):
        cluster.now_s += 0.25
        cluster.report(*cluster.stages, started=True, queues={"detect": QueueReport(0, 0.0)})
    assert cluster.take("stopped") == ["detect-2"]
    cluster.end("detect-2", 0)
    assert cluster.take("started") == [] and cluster.take("sent") == []
    late(cluster, *present)
    assert cluster.take("started") == ["detect-2"]


def test_a_lost_machine_is_no_death_of_its_processes(cluster: World) -> None:
    for _ in range(20):
        cluster.supervisor.child_lost("detect-1", cluster.now_s)
        cluster.pass_time()
        assert cluster.take("started") == ["detect-1"]
    assert Died("run/detect-1") in cluster.sent
    assert not cluster.over


def test_a_process_without_a_machine_is_not_late(cluster: World) -> None:
    cluster.supervisor.child_lost("detect-1", cluster.now_s)
    cluster.report(*(name for name in cluster.stages if name[:6] != "detect"), started=True)
    for _ in range(60):
        cluster.supervisor.child_unplaced("detect-1", cluster.now_s)
        cluster.wait(1.0)
    assert cluster.take("killed") == []
    cluster.wait(40.0)
    assert "detect-1" in cluster.take("killed")
