"""`run.py report`: the figures, the page, the table, and what is refused."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipeline.cli.main import main
from pipeline.cli.report.page import MOST_PLOTTED, make_page
from pipeline.cli.report.plots import stretches
from pipeline.cli.report.summary import Results, Span, clock, percent, read_results
from tests.support.records import face, record, write_records


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two faces in 100 frames; the second leaves for two seconds. Three frames are lost, one has no face."""
    records = []
    for frame in range(100):
        faces = [face(1, "happy" if frame < 40 else "sad", 0.4 if frame in (50, 51) else 0.8)]
        if not 20 <= frame < 70:
            faces.append(face(2, "neutral"))
        records.append(record(frame, *faces))
    records[97] = record(97)
    for frame, status, reason in ((10, "dropped", "stale"), (11, "dropped", "stale"), (12, "failed", "at 7")):
        records[frame] = record(frame, status=status, reason=reason)
    return write_records(tmp_path / "r.jsonl", records)


def read(path: Path) -> Results:
    return read_results(path)


def test_figures_of_a_source(results: Path) -> None:
    (source,) = read(results).summary.sources
    assert (source.captured, source.ok, source.dropped, source.failed) == (100, 97, {"stale": 2}, {"at N": 1})
    assert (source.start_s, source.end_s, source.frames_without_face) == (0.0, 4.0, 1)
    assert source.faces == sum(track.frames for track in source.tracks)
    assert sum(source.shares.values()) == pytest.approx(1, abs=1e-3)
    assert source.latency_ms == {"p50": 20.0, "p95": 20.0}


def test_figures_of_a_track(results: Path) -> None:
    first, second = read(results).summary.sources[0].tracks
    assert first.frames == 96
    assert first.emotion == "sad"
    assert first.shares["happy"] == pytest.approx(37 / 96, abs=1e-4)
    assert first.shares["uncertain"] == pytest.approx(2 / 96, abs=1e-4)
    assert first.mean_confidence == pytest.approx((94 * 0.8 + 2 * 0.4) / 96, abs=1e-4)
    assert first.in_view == [Span(0.0, 4.0)]
    assert second.in_view == [Span(0.0, 0.8), Span(2.8, 4.0)]
    assert second.seen_s == pytest.approx(2.0)


def test_a_stretch_ends_where_something_else_is_shown(results: Path) -> None:
    series = read(results).series["clip.mp4"]
    found = stretches(series.tracks[1], series.step_s)
    assert found == [(3, 0.0, 1.6), (4, 1.6, 2.0), (7, 2.0, 2.08), (4, 2.08, 4.0)]


def test_smoothed_values_are_taken(tmp_path: Path) -> None:
    steady = face(1, "happy", 0.7)["smoothed"]
    path = write_records(tmp_path / "r.jsonl", [record(0, face(1, "fear", smoothed=steady))])
    assert read(path).summary.sources[0].tracks[0].emotion == "happy"


def test_what_the_run_showed_as_uncertain_is_uncertain(tmp_path: Path) -> None:
    def shown(confidence: float, uncertain: bool) -> dict[str, object]:
        values: dict[str, object] = face(1, "happy", confidence)["smoothed"]
        return face(1, "happy", smoothed=values | {"uncertain": uncertain})

    path = write_records(tmp_path / "r.jsonl", [record(0, shown(0.45, False)), record(1, shown(0.55, True))])
    found = read_results(path)
    assert found.summary.uncertain_below is None
    assert found.series["clip.mp4"].tracks[1].shown.tolist() == [3, 7]
    assert read_results(path, 0.5).series["clip.mp4"].tracks[1].shown.tolist() == [7, 3]
    assert "where the results mark it" in make_page(found, {})


def test_pictures_of_a_folder_are_counted_instead_of_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [record(n, face(1, "happy"), time_s=float(n), file=f"{n}.jpg") for n in range(3)]
    path, page = write_records(tmp_path / "r.jsonl", records), tmp_path / "r.html"
    assert main(["report", str(path), "--out", str(page)]) == 0
    assert "pictures 1–3" in capsys.readouterr().out
    assert "pictures 1–3" in page.read_text()


class _Page(HTMLParser):
    """Collects what a page must not have twice, and what it must not have at all."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attributes:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "href", "xlink:href"):
                self.links.append(str(value))


def test_the_page_needs_nothing_else(results: Path) -> None:
    page = _Page(make_page(read(results), {("clip.mp4", 1): b"jpeg"}))
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    assert [link for link in page.links if not link.startswith(("#", "data:"))] == []
    assert page.tags["img"] == 1
    assert page.tags["svg"] == 4  # the time line, two faces, the losses
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_plots_are_sound_and_take_their_colours_from_the_page(results: Path) -> None:
    text = make_page(read(results), {})
    assert text == make_page(read(results), {})
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert plots
    for plot in plots:
        ElementTree.fromstring(plot.replace("xlink:", ""))
        assert "var(--ink)" in plot
        assert re.findall("#[0-9a-f]{6}", re.sub(r'(url\(|href=")#\S+', "", plot)) == []
    for name in set(re.findall(r"var\(--([\w-]+)\)", text)):
        assert f"--{name}: #" in text


def test_names_of_sources_are_text_on_the_page(tmp_path: Path) -> None:
    evil = record(0, face(1, "happy"), source="<script>x</script>")
    lost = record(1, source="<script>x</script>", status="dropped", reason="<b>")
    page = _Page(make_page(read(write_records(tmp_path / "<i>.jsonl", [evil, lost])), {}))
    assert page.tags["script"] == page.tags["b"] == 0


def test_many_faces_have_a_row_each_and_some_have_plots(tmp_path: Path) -> None:
    faces = [face(track, "happy") for track in range(1, 101)]
    path = write_records(tmp_path / "r.jsonl", [record(n, *faces) for n in range(3)])
    page = _Page(make_page(read(path), {}))
    assert page.tags["svg"] == 1 + MOST_PLOTTED
    assert page.tags["tr"] == 2 + 100  # two heads, as the further faces open on a click
    assert main(["report", str(path)]) == 0


def test_a_run_of_which_nothing_was_handled_has_a_report(tmp_path: Path) -> None:
    path = write_records(tmp_path / "r.jsonl", [record(0, status="dropped", reason="stale")])
    assert main(["report", str(path), "--out", str(tmp_path / "r.html")]) == 0


def test_the_figures_as_json(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(results), "--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main(["report", str(results), "--json", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text()) == printed
    assert printed["sources"][0]["tracks"][1]["in_view"][1] == {"start_s": 2.8, "end_s": 4.0}
    assert "face" in capsys.readouterr().out  # the table is there too


def test_a_line_that_a_killed_run_left_is_left_out(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results.write_text(results.read_text()[:-30])
    assert main(["report", str(results)]) == 0
    said = capsys.readouterr().out
    assert "its last line is cut off" in said
    assert "99 frames" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no record"),
        (b"hello\n", "line 1 is not a record of a run"),
        (b"\xff\xfe\n", "line 1 is not a record of a run"),
        (b'{"source": "a"}\n', "missing required field `frame`"),
        (json.dumps(record(0, face(1, "happy") | {"box": [1]})).encode() + b"\n{", "faces[0].box"),
        (json.dumps(record(0, face(1, "contempt"))).replace('"fear"', '"dread"').encode(), "'fear'"),
        (json.dumps(record(0)).encode() + b"\nhello\n", "line 2 is not a record of a run"),
    ],
)
def test_what_is_no_results_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    assert refused(capsys, str(path), "--out", str(tmp_path / "r.html")).startswith(f"error: {path}: ")
    assert message in refused(capsys, str(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.jsonl"], "none.jsonl: cannot be read: No such file or directory"),
        (["."], "expected a results file that ends in .jsonl"),
        (["r.csv"], "expected a results file that ends in .jsonl"),
        (["{}", "--out", "{}"], "is what the report is made from"),
        (["{}", "--json", "{}"], "is what the report is made from"),
        (["{}", "--out", "/proc/none/r.html"], "cannot be written"),
        (["{}", "--faces", "demo"], "it needs --out FILE"),
        (["{}", "--out", "/proc/none/x", "--faces", "demo"], "has no source 'demo', but clip.mp4"),
        (["{}", "--out", "/proc/none/x", "--faces", "none.mp4"], "no such file or folder"),
        (["{}", "--out", "/proc/none/x", "--faces", "0"], "expected the file that was analysed"),
        (["{}", "--uncertain-below", "2"], "expected a number from 0 to 1, found '2'"),
        ([], "the following arguments are required: RESULTS"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    results: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    before = results.read_bytes()
    assert message in refused(capsys, *(word.format(results) for word in words))
    assert results.read_bytes() == before


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one line on stderr of a report that is refused with status 2."""
    try:
        status: object = main(["report", *words])
    except SystemExit as end:
        status = end.code
    assert status == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_times_and_shares_are_written_as_people_read_them() -> None:
    assert [clock(s) for s in (0, 7.5, 59.96, 61.2, 3729)] == ["0:00", "0:07.5", "1:00", "1:01.2", "1:02:09"]
    assert [percent(share).replace("\u00a0", " ") for share in (0, 0.001, 0.5)] == ["0 %", "< 1 %", "50 %"]


def test_a_long_run_has_a_page_of_bounded_size(tmp_path: Path) -> None:
    """A face that shows something else in every frame is drawn in as many parts as can be seen."""
    emotions = ("happy", "sad", "fear")
    path = write_records(tmp_path / "r.jsonl", [record(n, face(1, emotions[n % 3])) for n in range(15_000)])
    found = read(path)
    series = found.series["clip.mp4"]
    assert len(stretches(series.tracks[1], series.step_s, 1.0)) <= 600
    assert len(make_page(found, {})) < 500_000
