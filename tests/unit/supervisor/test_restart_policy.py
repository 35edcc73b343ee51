"""When a dead process is started again, and when the run is given up."""

from pipeline.supervisor.watchdog import BACK_OFF_S, Restarts


def test_the_back_off_grows_until_the_fifth_death_gives_up() -> None:
    restarts = Restarts(max_restarts=5)
    delays = [restarts.died("detect", "detect-1", lived_s=1.0) for _ in range(5)]
    assert delays == [*BACK_OFF_S[:4], None]


def test_progress_forgives_the_group_but_not_the_back_off() -> None:
    restarts = Restarts(max_restarts=3)
    delays = []
    for _ in range(6):
        delays.append(restarts.died("detect", "detect-1", lived_s=1.0))
        restarts.progressed({"clip"}, {"clip"})
    assert delays == [*BACK_OFF_S, BACK_OFF_S[-1]]


def test_a_long_life_begins_anew() -> None:
    restarts = Restarts(max_restarts=5)
    restarts.died("detect", "detect-1", lived_s=1.0)
    restarts.progressed({"clip"}, {"clip"})
    assert restarts.died("detect", "detect-1", lived_s=100.0) == 0.0


def test_workers_of_a_role_are_counted_together() -> None:
    restarts = Restarts(max_restarts=3)
    assert restarts.died("detect", "detect-1", lived_s=1.0) == 0.0
    assert restarts.died("detect", "detect-2", lived_s=1.0) == 0.0
    assert restarts.died("detect", "detect-1", lived_s=1.0) is None


def test_progress_of_one_source_does_not_forgive_another_s_capture() -> None:
    restarts = Restarts(max_restarts=2)
    restarts.died("broken.mp4", "capture-1", lived_s=1.0)
    restarts.died("detect", "detect-1", lived_s=1.0)
    restarts.progressed({"clip"}, {"clip", "broken.mp4"})
    assert restarts.died("broken.mp4", "capture-1", lived_s=1.0) is None
    assert restarts.died("detect", "detect-1", lived_s=1.0) is not None
