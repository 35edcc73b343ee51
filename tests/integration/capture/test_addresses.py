"""Addresses: what has an end is a file, what goes on is live, and what can't be opened is named."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from stages.capture.sources import stream
from stages.capture.sources.stream import StreamReader
from tests.support.ftp import FtpFiles
from tests.support.media import noise, open_source, play, write_clip, write_film
from tests.support.web_files import GrowingPlaylist, Unending, WebFiles

CLIP = [noise(n, 64, 48) for n in range(40)]
TIMES = [n / 25 for n in range(40)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_film(tmp_path / "clip.mp4", [CLIP])  # its index in front
    write_clip(tmp_path / "late.mp4", CLIP)  # and behind
    write_film(tmp_path / "clip.mkv", [CLIP])
    write_film(tmp_path / "clip.ts", [CLIP])
    write_clip(tmp_path / "clip.m3u8", CLIP, "libx264", hls_time="0.4", hls_list_size="0", g="10")
    return tmp_path


@pytest.fixture
def web(folder: Path) -> Iterator[WebFiles]:
    with WebFiles(folder) as web:
        yield web


# ------------------------------------------------------------------------------------------ with an end


@pytest.mark.parametrize("ranges", [False, True])
@pytest.mark.parametrize("name", ["clip.mp4", "late.mp4", "clip.mkv", "clip.ts", "clip.m3u8"])
def test_what_has_an_end_is_a_file(folder: Path, name: str, ranges: bool) -> None:
    with WebFiles(folder, ranges=ranges) as web:
        assert open_source(web.url(name)).info.kind == "file"
        pictures, error = play(web.url(name))
    assert (len(pictures), error) == (40, "")
    assert [p.time_s for p in pictures] == pytest.approx(TIMES, abs=0.0021)


@pytest.mark.parametrize("ranges", [False, True])
def test_a_large_file_with_its_index_at_its_end(tmp_path: Path, ranges: bool) -> None:
    """Too large to be held whole by FFmpeg's own buffer."""
    write_clip(tmp_path / "large.mp4", [noise(n, 640, 480) for n in range(30)], "libx264", crf="10")
    assert (tmp_path / "large.mp4").stat().st_size > 4_000_000
    with WebFiles(tmp_path, ranges=ranges) as web:
        pictures, error = play(web.url("large.mp4"))
    assert (len(pictures), error) == (30, "")


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts"])
def test_a_part_of_a_file_and_its_repeats(web: WebFiles, name: str) -> None:
    pictures, error = play(web.url(name), start_s=1, duration_s=0.2, repeat=2)
    assert error == ""
    assert [p.time_s for p in pictures[:5]] == pytest.approx(TIMES[25:30], abs=0.001)
    assert len(pictures) == 10


def test_a_connection_that_breaks_is_taken_up_again(folder: Path) -> None:
    with WebFiles(folder, ranges=True, breaks_after=20_000) as web:
        pictures, error = play(web.url("clip.mp4"))
    assert (len(pictures), error) == (40, "")


def test_a_file_that_ends_too_early_is_told(folder: Path) -> None:
    whole = (folder / "clip.mp4").read_bytes()
    with WebFiles(folder) as web:
        web.answers["clip.mp4"] = whole[: len(whole) // 2]
        pictures, error = play(web.url("clip.mp4"))
    assert 0 < len(pictures) < 40
    assert "cut off" in error


def test_a_list_of_playlists_that_are_over_is_a_file(web: WebFiles) -> None:
    web.answers["all.m3u8"] = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=90000\nclip.m3u8\n"
    pictures, error = play(web.url("all.m3u8"))
    assert (len(pictures), error) == (40, "")


def test_secrets_of_a_file_are_not_shown(web: WebFiles) -> None:
    address = web.url("nowhere.mp4").replace("//", "//me:sesame@")
    with pytest.raises(UserError, match=r"this stream does not open: .*404") as told:
        open_source(f"{address}?token=sesame")
    assert "sesame" not in str(told.value)
    assert "sesame" not in open_source(web.url("clip.mp4") + "?token=sesame").info.name


# ---------------------------------------------------------------------------------------- that goes on


def test_a_playlist_that_goes_on_is_live_and_keeps_its_pace(folder: Path) -> None:
    with GrowingPlaylist(folder) as web:
        reader = open_source(web.url("clip.m3u8"))
        assert isinstance(reader, StreamReader)
        assert reader.info.kind == "live"
        times = []
        for _ in range(20):
            picture = reader.read()
            assert picture is not None and picture.image is not None
            times.append(picture.time_s)
        reader.close()
    assert 0.6 < times[-1] - times[0] < 6  # 0.76 s of the clip's own time, though two segments came at once


def test_a_playlist_of_an_event_that_grows_is_live(web: WebFiles, folder: Path) -> None:
    text = (folder / "clip.m3u8").read_text().replace("#EXT-X-ENDLIST", "")
    web.answers["event.m3u8"] = text.replace("#EXTINF", "#EXT-X-PLAYLIST-TYPE:EVENT\n#EXTINF", 1).encode()
    reader = open_source(web.url("event.m3u8"))
    assert reader.info.kind == "live"
    reader.close()


def free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_camera_that_serves_flv_without_end_is_live(folder: Path) -> None:
    """It says that it lasts 0 s, and has no length."""
    write_film(folder / "cam.flv", [CLIP])
    data = (folder / "cam.flv").read_bytes()
    place = data.index(b"duration") + len(b"duration") + 1
    data = data[:place] + bytes(8) + data[place + 8 :]
    with Unending(data) as camera:
        reader = open_source(camera.url)
        assert (reader.info.kind, reader.info.name) == ("live", camera.url.partition("?")[0])
        assert reader.read() is not None
        reader.close()


@pytest.mark.parametrize(
    ("reads", "writes", "form"),
    [
        ("udp://127.0.0.1:{}", "udp://127.0.0.1:{}", "mpegts"),
        ("rtp://127.0.0.1:{}", "rtp://127.0.0.1:{}", "rtp_mpegts"),
        ("tcp://127.0.0.1:{}?listen=1", "tcp://127.0.0.1:{}", "mpegts"),
        ("rtmp://127.0.0.1:{}/live/me?listen=1", "rtmp://127.0.0.1:{}/live/me", "flv"),
    ],
    ids=["udp", "rtp", "tcp", "rtmp"],
)
def test_streams_that_somebody_sends(reads: str, writes: str, form: str) -> None:
    """The sender may begin later, and this end says how many pictures it gets."""
    port = free_port(socket.SOCK_STREAM if "listen" in reads else socket.SOCK_DGRAM)
    words = [sys.executable, "-m", "tests.support.sender", writes.format(port), form]
    with subprocess.Popen(words, cwd=PROJECT) as sender:
        try:
            reader = open_source(reads.format(port))
            assert (reader.info.kind, reader.info.width, reader.info.height) == ("live", 64, 48)
            assert reader.info.name == writes.format(port)
            assert reader.read() is not None
            reader.close()
        finally:
            sender.kill()


def test_no_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SENDER_TIMEOUT_S", 1.0)
    for address in ("rtmp://127.0.0.1:{}/live?listen=1", "udp://127.0.0.1:{}"):
        with pytest.raises(UserError, match="this stream does not open: no answer for 1 s"):
            open_source(address.format(free_port(socket.SOCK_STREAM)))


@pytest.mark.parametrize("name", ["clip.mp4", "late.mp4", "clip.mkv", "clip.ts"])
def test_a_file_of_an_ftp_server(folder: Path, name: str) -> None:
    with FtpFiles(folder) as ftp:
        assert open_source(ftp.url(name)).info.kind == "file"
        pictures, error = play(ftp.url(name))
        with pytest.raises(UserError, match="this stream does not open") as told:
            open_source(ftp.url("nowhere.mp4"))
    assert (len(pictures), error) == (40, "")
    assert "sesame" not in str(told.value)


# --------------------------------------------------------------------------------------- named for what it is


def test_what_is_no_video_is_named(web: WebFiles) -> None:
    web.answers["watch"] = b"<!doctype html><title>A player</title>" + 2000 * b"<p>some text</p>"
    with pytest.raises(UserError, match="no video comes from there; of a web page"):
        open_source(web.url("watch"))


def test_a_protocol_that_this_ffmpeg_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise av.error.ProtocolNotFoundError(0x5052_4F, "Protocol not found")

    monkeypatch.setattr(stream.av, "open", unknown)
    with pytest.raises(UserError, match=r"the FFmpeg in PyAV's wheel has no srt; .* --source -") as told:
        open_source("srt://me:sesame@host:9000")
    assert "sesame" not in str(told.value)
