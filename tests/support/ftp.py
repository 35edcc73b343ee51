"""An FTP server for the files of a folder, as far as FFmpeg asks it."""

import contextlib
import socketserver
from pathlib import Path

from tests.support.web_files import Served

ANSWERS = {
    "USER": "331 password",
    "PASS": "230 welcome",
    "TYPE": "200 ok",
    "FEAT": "211 none",
    "PWD": '257 "/"',
    "CWD": "250 ok",
    "ABOR": "225 ok",
}
PORT = "229 Entering Extended Passive Mode (|||{}|)"


class FtpFiles(Served):
    """Use as a context manager. `url(name)` is the address of a file; anyone may come in."""

    def __init__(self, folder: Path) -> None:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the reader has gone
                    _serve(self, folder)

        super().__init__(Handler, socketserver.ThreadingTCPServer)

    def url(self, name: str) -> str:
        return f"ftp://me:sesame@127.0.0.1:{self._server.server_address[1]}/{name}"


def _serve(connection: socketserver.StreamRequestHandler, folder: Path) -> None:
    def say(line: str) -> None:
        connection.wfile.write(f"{line}\r\n".encode())

    say("220 ready")
    start, data = 0, socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)
    with data:
        for line in connection.rfile:
            command, _, word = line.decode().strip().partition(" ")
            path = folder / word.lstrip("/")
            if command in ("SIZE", "RETR", "MDTM") and not path.is_file():
                say("550 no such file")
                continue
            match command:
                case "EPSV":
                    say(PORT.format(data.server_address[1]))
                case "SIZE":
                    say(f"213 {path.stat().st_size}")
                case "REST":
                    start = int(word)
                    say("350 from there")
                case "RETR":
                    say("150 here it comes")
                    try:
                        with data.get_request()[0] as channel:
                            channel.sendall(path.read_bytes()[start:])
                    except OSError:
                        pass  # the reader has seen enough, or looks elsewhere
                    start = 0
                    say("226 done")
                case "QUIT":
                    say("221 bye")
                    return
                case _:
                    say(ANSWERS.get(command, "502 not here"))
