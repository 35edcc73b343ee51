"""The declaration of the web page's process."""

import errno
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pipeline.common.errors import UserError
from pipeline.config.schema import Settings, WordsSettings
from pipeline.config.stage import CheckLine, ProcessPlan, RunFacts, StageSpec
from stages.capture.spec import CaptureSettings, visitors_address
from stages.display.spec import STDOUT, DisplaySettings, page_address

Port = Annotated[int, Meta(ge=0, le=65_535)]

PORTS_TRIED: Final = 10
SHORTEST_TOKEN: Final = 16
MAKE_TOKEN: Final = 'python -c "import secrets; print(secrets.token_urlsafe())"'


class WebSettings(Settings, frozen=True):
    """`[web]`: where the page is and who may see it."""

    host: str = "127.0.0.1"  # address of this machine, by number; 0.0.0.0 or :: for all of them
    port: Port = 8080  # if it is in use, the next free one of ten; 0: any
    token: str = ""  # what viewers must know; needed beyond the loopback
    certificate: str = ""  # PEM files, both or neither: the page is https then
    key: str = ""


class WebOptions(msgspec.Struct, frozen=True):
    """What the page's process is given."""

    settings: WebSettings  # port is a free one
    page: str  # where display is met
    mirror: bool  # whether the picture is a mirror at first
    words: WordsSettings = WordsSettings()  # that emotions are shown with
    visitors: list[str] = []  # sources whose pictures are visitors' cameras
    visitors_address: str = ""  # where their captures are met
    camera: tuple[int, int, int] = (0, 0, 0)  # width, height, px, and rate that are asked of them; 0: any
    stored: str = ""  # what the visitors are told of that


def processes(run: RunFacts) -> list[ProcessPlan]:
    """Plan the page's process if this run shows one. Raises UserError for settings that are not safe."""
    display = run.settings.of(DisplaySettings)
    if display.mode != "web":
        return []
    settings = run.settings.of(WebSettings)
    visitors = [source.name for source in run.sources if source.form == "browser"]
    check_settings(settings, cameras=bool(visitors))
    # Found here, so that a page which is started again is where its viewers look for it.
    settings = msgspec.structs.replace(settings, port=find_port(settings.host, settings.port))
    words = run.settings.of(WordsSettings)
    capture = run.settings.of(CaptureSettings)
    options = WebOptions(
        settings,
        page_address(run),
        display.mirror,
        words,
        visitors,
        visitors_address(run),
        (capture.camera_width, capture.camera_height, capture.camera_fps),
        stored(display),
    )
    return [ProcessPlan(WEB.role, WEB.module, "web", options)]


def stored(display: DisplaySettings) -> str:
    """Say what this run keeps of its visitors."""
    kept = []
    if display.record:
        kept.append(f"records your picture in {Path(display.record).name}")
    if display.results:
        where = "standard output" if display.results == STDOUT else Path(display.results).name
        kept.append(f"writes results to {where}")
    return f"This run {' and '.join(kept)}." if kept else "Nothing is stored."


def check_settings(settings: WebSettings, *, cameras: bool = False) -> None:
    """Raise UserError for a host that is none or that others reach without a token, and for bad TLS files.

    cameras: whether the page asks for them, which browsers give to https and on the loopback alone.
    """
    try:
        loopback = ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        raise UserError(
            "web.host: expected an address of this machine by number, such as 0.0.0.0, "
            f"found {settings.host!r}"
        ) from None
    if settings.token and (len(settings.token) < SHORTEST_TOKEN or not settings.token.isascii()):
        raise UserError(
            f"web.token: expected at least {SHORTEST_TOKEN} ASCII characters, found {len(settings.token)}; "
            f"make one with: {MAKE_TOKEN}"
        )
    if not loopback and not settings.token:
        raise UserError(
            f"web.host: {settings.host} can be reached from other machines: that needs web.token; "
            f"make one with: {MAKE_TOKEN}"
        )
    if cameras and not loopback and not settings.certificate:
        raise UserError(
            f"web.host: {settings.host} can be reached from other machines, and browsers give cameras to "
            "https pages alone: source browser needs web.certificate and web.key (docs/web.md makes them)"
        )
    if bool(settings.certificate) != bool(settings.key):
        raise UserError("web.certificate and web.key: expected both or neither (docs/web.md makes them)")
    tls(settings)


def tls(settings: WebSettings) -> ssl.SSLContext | None:
    """Return what the page's connections are encrypted with; None for none.

    Raises UserError for files that can't be read or don't belong together.
    """
    if not settings.certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for name, file in (("web.certificate", settings.certificate), ("web.key", settings.key)):
        if not Path(file).is_file():
            raise UserError(f"{name}: no file {file} (docs/web.md makes it)")
    try:
        context.load_cert_chain(settings.certificate, settings.key, password=_no_password)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise UserError(
            f"web.certificate {settings.certificate}, web.key {settings.key}: "
            f"expected a certificate and its key, both PEM, without a password: {error}"
        ) from error
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")


def find_port(host: str, port: int) -> int:
    """Return the first free port of ten, from `port` on; for 0 any. Raises UserError if there is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last = min(65_535, port + PORTS_TRIED - 1) if port else 0
    for tried in range(port, last + 1):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, tried))
                return int(probe.getsockname()[1])
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise UserError(f"web.host {host}, web.port {tried}: {error.strerror}") from error
    raise UserError(f"web.port: {port} to {last} are in use on {host}; set web.port to a free one")


def check(settings: WebSettings) -> list[CheckLine]:
    """Return what is wrong with the settings: nothing, as a rule, and the page may not be wanted at all."""
    try:
        check_settings(settings)
    except UserError as error:
        return [CheckLine("missing", "web", str(error))]
    return []


WEB = StageSpec("web", "stages.web.main", WebSettings, processes, check=check, optional=True)
