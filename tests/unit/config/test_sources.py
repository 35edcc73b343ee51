"""What a source's text says of it, and what may be shown of an address."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.common.errors import UserError
from pipeline.config.sources import count_of, parse_sources, without_credentials


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
        ("RTMP://host/app/key", "stream", "live", "RTMP://host/app/key"),
        ("udp://@239.0.0.1:1234", "stream", "live", "udp://239.0.0.1:1234"),
        ("srt://host:9000?passphrase=x", "stream", "live", "srt://host:9000"),
        ("tcp://0.0.0.0:5000?listen=1", "stream", "live", "tcp://0.0.0.0:5000"),
        ("demo", "demo", "file", "demo"),
        ("demo:8", "demo", "file", "demo-8"),
    ],
)
def test_forms(text: str, form: str, kind: str, name: str) -> None:
    (spec,) = parse_sources([text])
    assert (spec.text, spec.form, spec.kind, spec.name) == (text, form, kind, name)


def test_browser_is_a_source_for_each_visitor_at_a_time() -> None:
    specs = parse_sources(["browser:2", "demo"])
    assert [(spec.form, spec.kind, spec.name) for spec in specs] == [
        ("browser", "live", "browser#1"),
        ("browser", "live", "browser#2"),
        ("demo", "file", "demo"),
    ]
    assert len(parse_sources(["browser"])) == 4


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["browser:0"], "N from 1 to 64"),
        (["browser:65"], "N from 1 to 64"),
        (["browser:x"], "N from 1 to 64"),
        (["browser", "browser:2"], "browser is named twice"),
    ],
)
def test_browsers_that_can_not_be(texts: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_sources(texts)


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


def test_faces_of_the_demo() -> None:
    assert (count_of("demo:16", 4, 100), count_of("demo", 4, 100)) == (16, 4)


@pytest.mark.parametrize(
    "text",
    ["", "no such.mp4", "99999999999", "sftp://me:secret@h/x", "x" * 5000, "nul\0.mp4", "caf\udce9.mp4"],
)
def test_what_is_not_there_is_reported_in_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_sources([text])
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


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


# --------------------------------------------------------------------------- what people write for a source


def forms(*texts: str | Path) -> list[tuple[str, str]]:
    return [(spec.form, spec.name) for spec in parse_sources([str(text) for text in texts])]


@pytest.mark.parametrize("text", ["-", "/dev/stdin", "pipe:", "pipe:0"])
def test_standard_input(text: str) -> None:
    (spec,) = parse_sources([text])
    assert (spec.text, spec.form, spec.kind, spec.name) == ("-", "pipe", "file", "stdin")


def test_file_addresses(tmp_path: Path) -> None:
    for name in ("clip.mp4", "my clip.mp4", "50%20.mp4"):
        (tmp_path / name).touch()
    assert forms(f"file://{tmp_path}/clip.mp4", f"FILE://localhost{tmp_path}/my%20clip.mp4") == [
        ("video", "clip.mp4"),
        ("video", "my clip.mp4"),
    ]
    assert forms(f"file://{tmp_path}/50%20.mp4", f"file://{tmp_path}") == [
        ("video", "50%20.mp4"),
        ("folder", tmp_path.name),
    ]
    with pytest.raises(UserError, match=r"source '/not/there\.mp4': no such file or folder"):
        parse_sources(["file:///not/there.mp4"])


def test_a_number_chooses_a_video_unless_a_file_is_called_so(tmp_path: Path, clip: str) -> None:
    odd = tmp_path / "take#2"
    odd.touch()
    specs = parse_sources([f"{clip}#1", clip, str(odd), f"{odd}#0", "rtsp://me:secret@h/x#1", "-#1"])
    assert [(spec.name, spec.stream) for spec in specs] == [
        ("clip.mp4#1", 1),
        ("clip.mp4", None),
        ("take#2", None),
        ("take#2#0", 0),
        ("rtsp://h/x#1", 1),
        ("stdin#1", 1),
    ]
    assert specs[0].text == clip


def test_patterns(tmp_path: Path) -> None:
    for name in ("a1.png", "a2.png", "b.mkv", "c.mp4", "[x].mp4"):
        (tmp_path / name).touch()
    assert forms(tmp_path / "a*.png", tmp_path / "a%d.png") == [("folder", "a*.png"), ("folder", "a%d.png")]
    assert forms(tmp_path / "*.m*") == [("video", "[x].mp4"), ("video", "b.mkv"), ("video", "c.mp4")]
    assert forms(tmp_path / "?*")[0] == ("folder", "?*")
    assert len(forms(tmp_path / "?*")) == 4
    assert forms(tmp_path / "[x].mp4") == [("video", "[x].mp4")]  # a file of that name comes first
    for none in ("*.avi", "b%04d.png", "nowhere/%d.png"):
        with pytest.raises(UserError, match="no file matches this pattern"):
            parse_sources([str(tmp_path / none)])


@pytest.mark.parametrize("text", ["sftp://me:secret@h/x", "webrtc://h/x", "s3://bucket/clip.mp4"])
def test_an_address_that_cannot_be_read_is_named(text: str) -> None:
    scheme = text.partition(":")[0]
    with pytest.raises(
        UserError, match=f"{scheme}:// addresses can't be read; expected one of rtsp, "
    ) as caught:
        parse_sources([text])
    assert "secret" not in str(caught.value)


def test_many_files_of_a_pattern_count_as_sources(tmp_path: Path) -> None:
    for number in range(65):
        (tmp_path / f"{number}.mp4").touch()
    with pytest.raises(UserError, match="expected at most 64 sources, found 65"):
        parse_sources([str(tmp_path / "*.mp4")])


@pytest.mark.parametrize(
    ("text", "rest", "place", "name"),
    [
        ("0@camera:door", "0", "camera:door", "camera-0@door"),
        ("/dev/video2@camera:door", "/dev/video2", "camera:door", "camera-2@door"),
        ("demo@camera:door", "demo", "camera:door", "demo"),
        ("rtsp://user@camera:554", "rtsp://user@camera:554", "", "rtsp://camera:554"),
        ("rtsp://user:pw@camera:554/a@camera:b", "rtsp://user:pw@camera:554/a@camera:b", "", None),
    ],
)
def test_places_of_a_cluster(text: str, rest: str, place: str, name: str | None) -> None:
    (source,) = parse_sources([text])
    assert (source.text, source.place) == (rest, place)
    assert name is None or source.name == name


def test_the_same_camera_of_two_places_has_two_names() -> None:
    sources = parse_sources(["0@camera:door", "0@camera:garden"])
    assert [source.name for source in sources] == ["camera-0@door", "camera-0@garden"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}/CLIP.MP4", "did you mean '{}/clip.mp4'?"),
        ("{}/clip.mp4 ", "did you mean '{}/clip.mp4'?"),
        ("'{}/clip.mp4'", "did you mean '{}/clip.mp4'?"),
        ("{}/clp.mp4", "did you mean '{}/clip.mp4'?"),
        ("{0}/clip.mp4,{0}/clip.mp4", "each source needs a --source of its own"),
        ("{}/something else", "expected a camera's number"),
        ("localhost:8080/video", "an address begins with rtsp://"),
        ("me:sesame@192.168.1.20:554/live?token=sesame", "an address begins with rtsp://"),
        ("www.youtube.com/watch?v=x", "an address begins with rtsp://"),
        ("cam.local:554", "an address begins with rtsp://"),
    ],
)
def test_what_may_be_meant_by_a_name_that_is_not_there(clip: str, text: str, said: str) -> None:
    folder = str(Path(clip).parent)
    with pytest.raises(UserError) as told:
        parse_sources([text.format(folder)])
    assert said.format(folder) in str(told.value)
    assert "sesame" not in str(told.value)


def test_the_home_that_no_shell_has_named(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path(clip).parent))
    (spec,) = parse_sources(["~/clip.mp4"])
    assert (spec.text, spec.name) == (clip, "clip.mp4")
