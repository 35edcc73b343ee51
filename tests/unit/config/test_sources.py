"""What a source's text says of it, and what may be shown of an address."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.common.errors import UserError
from pipeline.config.sources import demo_faces, parse_sources, without_credentials


@pytest.fixture
def clip(tmp_path: Path) -> str:
    path = tmp_path / "clip.mp4"
    path.touch()
    return str(path)


@pytest.mark.parametrize(
    ("text", "form", "kind", "name"),
    [
        ("0", "camera", "live", "camera-0"),
        ("12", "camera", "live", "camera-12"),
        ("/dev/video2", "camera", "live", "camera-2"),
        ("rtsp://host/live", "stream", "live", "rtsp://host/live"),
        ("RTSPS://host:322/live", "stream", "live", "RTSPS://host:322/live"),
        ("http://[::1]:8080/mjpg", "stream", "live", "http://[::1]:8080/mjpg"),
        ("http://[broken", "stream", "live", "http://[broken"),
        ("https://host", "stream", "live", "https://host"),
        ("demo", "demo", "file", "demo"),
        ("demo:8", "demo", "file", "demo-8"),
    ],
)
def test_forms(text: str, form: str, kind: str, name: str) -> None:
    (spec,) = parse_sources([text])
    assert (spec.text, spec.form, spec.kind, spec.name) == (text, form, kind, name)


def test_files_and_folders(tmp_path: Path, clip: str) -> None:
    picture = tmp_path / "face.PNG"
    picture.touch()
    forms = [(spec.form, spec.name) for spec in parse_sources([clip, str(tmp_path), str(picture)])]
    assert forms == [("video", "clip.mp4"), ("folder", tmp_path.name), ("folder", "face.PNG")]


def test_the_folder_one_is_in_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_sources(["."])[0].name == tmp_path.name


def test_duplicates_get_numbers(tmp_path: Path, clip: str) -> None:
    numbered = tmp_path / "clip.mp4 #2"
    numbered.touch()
    names = [spec.name for spec in parse_sources([clip, clip, clip])]
    assert names == ["clip.mp4", "clip.mp4 #2", "clip.mp4 #3"]
    # A file that is really called so does not lead to the same name twice.
    for order in ([str(numbered), clip, clip], [clip, clip, str(numbered)], [clip, str(numbered), clip]):
        assert len({spec.name for spec in parse_sources(order)}) == 3


def test_cameras_and_streams_that_look_alike_stay_apart() -> None:
    specs = parse_sources(["0", "/dev/video0", "rtsp://a:b@h/x", "rtsp://c:d@h/x", "rtsp://h/x?token=1"])
    assert [spec.name for spec in specs] == [
        "camera-0",
        "camera-0 #2",
        "rtsp://h/x",
        "rtsp://h/x #2",
        "rtsp://h/x #3",
    ]


@pytest.mark.parametrize("text", ["demo:0", "demo:101", "demo:", "demo:x", "demo:-1", "demo:" + "9" * 5000])
def test_a_demo_that_cannot_be(text: str) -> None:
    with pytest.raises(UserError, match="N from 1 to 100"):
        parse_sources([text])


def test_demo_faces() -> None:
    assert (demo_faces("demo:16", 4), demo_faces("demo", 4)) == (16, 4)


@pytest.mark.parametrize(
    "text",
    ["", "no such.mp4", "99999999999", "sftp://me:secret@h/x", "x" * 5000, "nul\0.mp4", "caf\udce9.mp4"],
)
def test_what_is_not_there_is_told_in_one_line(text: str) -> None:
    with pytest.raises(UserError) as told:
        parse_sources([text])
    assert "\n" not in str(told.value)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://host/live", "rtsp://host/live"),
        ("rtsp://me:secret@host:554/live", "rtsp://host:554/live"),
        ("rtsp://me@host/live", "rtsp://host/live"),
        ("rtsp://me:se/cret@host/live", "rtsp://host/live"),
        ("rtsp://me:12/cret@host/live", "rtsp://host/live"),
        ("rtsp://me@mail.org:se/cret@host/live", "rtsp://host/live"),
        ("rtsp://me:se@cret@host/live", "rtsp://host/live"),
        ("rtsp://me:se?cret@host/live", "rtsp://…"),
        ("rtsp://me:se#cret@host/live", "rtsp://…"),
        ("rtsp://me:a@b?c@host/live", "rtsp://…"),
        ("http://host/live?token=secret", "http://host/live"),
        ("http://host/live#secret", "http://host/live"),
        ("http://host/live?mail=me@secret", "http://…"),
        ("http://me:p@host/live?token=secret", "http://host/live"),
        ("rtsp:me:secret@host/live", "rtsp://host/live"),
    ],
)
def test_what_may_be_shown_of_an_address(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


@given(password=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1))
def test_no_password_however_odd_is_shown(password: str) -> None:
    secret = f"hunter{password}rabbit"
    shown = without_credentials(f"rtsp://me:{secret}@host:554/live")
    assert "hunter" not in shown
    assert "rabbit" not in shown
