"""Who is let in, over real connections."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, WSServerHandshakeError

from tests.support.web_world import LIMIT_S, serving

TOKEN = "a-token-of-some-length"
API = ("/api/status", "/api/results", "/api/snapshot.jpg", "/api/stream.mjpg", "/api/live", "/metrics")


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 3 * LIMIT_S))


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # whose name was made to point to this machine
        {"Host": "evil.example:80"},
        {"Host": "localhost.evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},  # another server of this machine
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_pages_get_nothing(headers: dict[str, str]) -> None:
    async def scene() -> None:
        async with serving() as (world, client):
            for path in API:
                assert (await client.get(path, headers=headers)).status == 403
            with pytest.raises(WSServerHandshakeError):
                await client.ws_connect("/api/live", headers=headers)
            assert not world.hub.viewers and not world.hub.readers

    run(scene())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST:8080"])
def test_the_names_of_the_loopback_are_served(host: str) -> None:
    async def scene() -> None:
        async with serving() as (_, client):
            assert (await client.get("/api/status", headers={"Host": host})).status == 200
            own = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
            assert (await client.get("/api/status", headers=own)).status == 200

    run(scene())


def test_browsers_are_told_what_the_page_may_do() -> None:
    async def scene() -> None:
        async with serving() as (_, client):
            for path in ("/", "/app.js", "/api/status", "/none", "/api/snapshot.jpg?source=none"):
                headers = (await client.get(path)).headers
                assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
                assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert headers["X-Content-Type-Options"] == "nosniff"
                assert "Access-Control-Allow-Origin" not in headers

    run(scene())


def test_nothing_of_the_run_is_given_without_the_token() -> None:
    async def scene() -> None:
        async with serving(token=TOKEN) as (_, client):
            assert (await client.get("/")).status == 200  # which asks for it
            wrong = (
                {},
                {"Authorization": "Bearer x"},
                {"Authorization": TOKEN},
                {"Cookie": f"emotions={TOKEN}"},
            )
            for headers in wrong:
                for path in (*API, "/none"):
                    assert (await client.get(path, headers=headers)).status == 401
            given = {"Authorization": f"Bearer {TOKEN}", "Host": "camera.example"}
            assert (await client.get("/api/status", headers=given)).status == 200

    run(scene())


def test_the_token_is_exchanged_for_a_cookie_that_a_new_process_knows() -> None:
    async def scene() -> None:
        async with serving(token=TOKEN) as (world, client):
            assert (await client.post("/api/login", data=b"wrong")).status == 401
            answer = await client.post("/api/login", data=TOKEN.encode())
            assert answer.status == 204
            (cookie,) = answer.cookies.values()
            assert cookie["httponly"] and cookie["samesite"] == "Strict" and TOKEN not in cookie.value
            assert (await client.get("/api/status")).status == 200
            foreign = await client.get("/api/status", headers={"Origin": "http://evil.example"})
            assert foreign.status == 403
            async with client.ws_connect("/api/live") as socket:
                assert (await socket.receive_json())["type"] == "status"
        async with serving(token=TOKEN) as (again, _):
            session = {f"emotions_{again.settings.port}": cookie.value}
            async with ClientSession(again.url, cookies=session) as other:
                sent = {"Cookie": f"emotions_{again.settings.port}={cookie.value}"}
                assert (await other.get("/api/status", headers=sent)).status == 200
        assert world is not again

    run(scene())


def test_tokens_can_not_be_tried_without_end() -> None:
    async def scene() -> None:
        async with serving(token=TOKEN) as (_, client):
            answers = [(await client.post("/api/login", data=b"wrong")).status for _ in range(12)]
            assert answers == [401] * 10 + [429] * 2
            assert (await client.post("/api/login", data=TOKEN.encode())).status == 429

    run(scene())


def test_requests_without_end_are_refused() -> None:
    async def scene() -> None:
        async with serving() as (_, client):
            answers = [(await client.get("/api/status")).status for _ in range(260)]
            assert answers[:200] == [200] * 200
            assert 429 in answers

    run(scene())


def test_large_and_strange_requests_are_refused_and_the_page_goes_on() -> None:
    async def scene() -> None:
        async with serving() as (world, client):
            assert (await client.post("/api/login", data=bytes(100_000))).status in (204, 413)
            for sent in (
                b"\0\1\2\3\r\n\r\n",
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", world.settings.port)
                writer.write(sent)
                assert b" 400 " in (await asyncio.wait_for(reader.read(), LIMIT_S)).split(b"\r\n")[0]
                writer.close()
            assert (await client.get("/../main.py")).status == 404
            assert (await client.get("/%2e%2e/main.py")).status == 404
            assert (await client.get("/api/status")).status == 200

    run(scene())


def test_with_a_certificate_the_page_is_https(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it makes the certificate")
    certificate, key = tmp_path / "page.pem", tmp_path / "page.key"
    # As docs/web.md has it.
    command = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=camera -addext "
        f"subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True, timeout=LIMIT_S)

    async def scene() -> None:
        async with serving(certificate=str(certificate), key=str(key)) as (world, _):
            trusted = ssl.create_default_context(cafile=str(certificate))
            async with ClientSession(world.url, connector=TCPConnector(ssl=trusted)) as client:
                assert (await client.get("/api/status")).status == 200
                own = {"Origin": world.url}
                assert (await client.get("/api/status", headers=own)).status == 200

    run(scene())
