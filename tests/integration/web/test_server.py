"""The page's addresses, over real connections."""

import asyncio
import json
import struct
from collections.abc import Coroutine
from typing import Any

import pytest
from aiohttp import ClientError, ClientWebSocketResponse, WSMsgType

from stages.web import server as server_module
from tests.support.web_world import LIMIT_S, WebWorld, make_jpeg, serving, until


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 3 * LIMIT_S))


async def ask(socket: ClientWebSocketResponse, source: str = "clip") -> None:
    await socket.send_json({"next": source})


async def frame_of(socket: ClientWebSocketResponse) -> tuple[int, bytes]:
    """Return the number of the next frame, and its JPEG; what else comes is passed over."""
    while True:
        message = await socket.receive(LIMIT_S)
        assert message.type in (WSMsgType.TEXT, WSMsgType.BINARY), message
        if message.type is WSMsgType.BINARY:
            (length,) = struct.unpack("<I", message.data[:4])
            return json.loads(message.data[4 : 4 + length])["frame"], message.data[4 + length :]


def test_a_page_gets_a_frame_each_time_it_asks_for_one() -> None:
    async def scene() -> None:
        async with serving() as (world, client), client.ws_connect("/api/live") as socket:
            assert (await socket.receive_json())["type"] == "status"
            await ask(socket)
            await world.put_when_wanted(1)
            assert await frame_of(socket) == (1, make_jpeg(1))
            for number in range(2, 7):  # nobody has asked for these
                world.put(number)
            await ask(socket)
            await world.put_when_wanted(7)
            assert await frame_of(socket) == (7, make_jpeg(7))

    run(scene())


def test_one_frame_serves_all_viewers_and_a_stalled_one_holds_up_none() -> None:
    async def scene() -> None:
        async with serving() as (world, client):
            stalled = await client.ws_connect("/api/live")
            await ask(stalled)
            async with client.ws_connect("/api/live") as first, client.ws_connect("/api/live") as second:
                for number in range(1, 60):
                    await ask(first)
                    await ask(second)
                    await until(lambda: sum("clip" in viewer.wanted for viewer in world.hub.viewers) >= 2)
                    world.put(number, jpeg=bytes(500_000))
                    assert (await frame_of(first))[0] == (await frame_of(second))[0] == number
            await stalled.close()
            await until(lambda: not world.hub.viewers)

    run(scene())


@pytest.mark.parametrize(
    "sent", ["{}", "[]", '{"next": 1}', '{"next": "clip", "more": 1}', "x" * 5000, b"bytes"]
)
def test_a_page_that_sends_anything_else_is_closed_and_others_go_on(sent: str | bytes) -> None:
    async def scene() -> None:
        async with serving() as (world, client), client.ws_connect("/api/live") as good:
            bad = await client.ws_connect("/api/live")
            await (bad.send_str(sent) if isinstance(sent, str) else bad.send_bytes(sent))
            while (await bad.receive(LIMIT_S)).type is WSMsgType.TEXT:
                pass
            assert bad.close_code in (1008, 1009)
            await ask(good)
            await world.put_when_wanted(1)
            assert (await frame_of(good))[0] == 1

    run(scene())


def test_a_page_that_asks_too_often_is_closed() -> None:
    async def scene() -> None:
        async with serving() as (_, client), client.ws_connect("/api/live") as socket:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(server_module, "MESSAGES_A_S", 10.0)
                bad = await client.ws_connect("/api/live")
                for _ in range(50):
                    await bad.send_str('{"next": "clip"}')
                while (await bad.receive(LIMIT_S)).type is WSMsgType.TEXT:
                    pass
                assert bad.close_code == 1008
            assert not socket.closed

    run(scene())


def test_a_source_that_is_none_is_never_asked_for() -> None:
    async def scene() -> None:
        async with serving() as (world, client), client.ws_connect("/api/live") as socket:
            await ask(socket, "none")
            await ask(socket, "clip")
            await world.put_when_wanted(1)
            await frame_of(socket)
            assert world.requests == ["clip"]

    run(scene())


def test_pages_hear_of_the_end() -> None:
    async def scene() -> None:
        async with serving() as (world, client), client.ws_connect("/api/live") as socket:
            await socket.receive_json()
            world.hub.put_status()
            world.hub.end()
            assert (await socket.receive_json())["type"] == "status"
            assert (await socket.receive(LIMIT_S)).type is WSMsgType.CLOSE
            assert socket.close_code == 1001

    run(scene())


def test_records_come_as_events_and_what_is_missed_is_told() -> None:
    async def scene() -> None:
        async with serving() as (world, client), client.get("/api/results") as answer:
            assert answer.content_type == "text/event-stream"
            world.put(1)
            assert json.loads((await answer.content.readline())[6:])["frame"] == 1
            await answer.content.readline()
            (reader,) = world.hub.readers
            for number in range(2, 2 + server_module.MAX_MESSAGE_BYTES):  # while the server has no turn
                world.put(number)
            assert reader.missed > 0
            assert await answer.content.readline() == b"event: missed\n"
            missed = json.loads((await answer.content.readline())[6:])["records"]
            await answer.content.readline()
            assert json.loads((await answer.content.readline())[6:])["frame"] == 2 + missed

    run(scene())


def test_a_snapshot_is_the_next_frame() -> None:
    async def scene() -> None:
        async with serving() as (world, client):
            world.put(1)
            waiting = asyncio.ensure_future(client.get("/api/snapshot.jpg", params={"source": "clip"}))
            await world.put_when_wanted(2)
            answer = await waiting
            assert (answer.status, answer.content_type) == (200, "image/jpeg")
            assert await answer.read() == make_jpeg(2)

    run(scene())


@pytest.mark.parametrize("path", ["/api/snapshot.jpg", "/api/stream.mjpg"])
def test_a_picture_that_is_asked_for_before_there_is_a_source_comes_with_the_first(path: str) -> None:
    async def scene() -> None:
        async with serving() as (world, client):
            world.names = []
            waiting = asyncio.ensure_future(client.get(path))
            await until(lambda: bool(world.hub.viewers))
            world.names = ["clip"]
            world.hub.put_status()
            await world.put_when_wanted(1)
            answer = await waiting
            assert answer.status == 200
            answer.close()

    run(scene())


def test_a_viewer_that_leaves_before_its_answer_begins_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with serving() as (world, client):
            world.names = []
            _, writer = await connect(world)
            writer.write(b"GET /api/stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: bool(world.hub.viewers))
            writer.transport.abort()
            assert (await client.get("/api/status")).status == 200  # by then the server knows
            world.names = ["clip"]
            world.hub.put_status()
            await until(lambda: not world.hub.viewers)

    run(scene())
    assert not caplog.records


def test_a_source_that_stands_still_gives_no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "PICTURE_S", 0.05)

    async def scene() -> None:
        async with serving() as (_, client):
            assert (await client.get("/api/snapshot.jpg")).status == 503
            answer = await client.get("/api/snapshot.jpg", params={"source": "other"})
            assert (answer.status, await answer.text()) == (
                404,
                "source: expected one of clip; found 'other'\n",
            )

    run(scene())


def test_an_address_that_is_none_is_answered_with_the_pages() -> None:
    async def scene() -> None:
        async with serving() as (world, client):
            answer = await client.get("/none%0D")
            assert answer.status == 404
            assert await answer.text() == f"nothing is at /none%0D; the page is at {world.url}/\n"

    run(scene())


def test_mjpeg_is_a_frame_after_the_other() -> None:
    async def scene() -> None:
        async with serving() as (world, client), client.get("/api/stream.mjpg") as answer:
            assert answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
            for number in (1, 2, 3):
                await world.put_when_wanted(number)
                assert await answer.content.readline() == b"--frame\r\n"
                await answer.content.readline()
                length = int((await answer.content.readline()).split()[1])
                assert await answer.content.readline() == b"\r\n"
                assert await answer.content.readexactly(length) == make_jpeg(number)
                await answer.content.readline()

    run(scene())


def test_status_and_metrics() -> None:
    async def scene() -> None:
        async with serving() as (_, client):
            status = await (await client.get("/api/status")).json()
            assert status["sources"][0]["name"] == "clip"
            answer = await client.get("/metrics")
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            head, *viewers = (await answer.text()).splitlines()
            assert (head, viewers[-1]) == ("# run", "emotions_viewers 0")

    run(scene())


def test_viewers_and_readers_too_many_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_VIEWERS", 1)
    monkeypatch.setattr(server_module, "MAX_READERS", 1)

    async def scene() -> None:
        async with serving() as (_, client), client.ws_connect("/api/live"), client.get("/api/results"):
            assert (await client.get("/api/results")).status == 503
            assert (await client.get("/api/snapshot.jpg")).status == 503
            assert (await client.get("/api/live")).status == 503

    run(scene())


async def connect(world: WebWorld) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", world.settings.port)


def test_connections_too_many_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)

    async def scene() -> None:
        async with serving() as (world, client):
            idle = [await connect(world) for _ in range(3)]
            with pytest.raises(ClientError):
                await client.get("/api/status")
            for _, writer in idle:
                writer.close()
                await writer.wait_closed()
            answers = (await client.get("/api/status")).status
            assert answers == 200

    run(scene())


def test_a_connection_that_asks_for_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "FIRST_REQUEST_S", 0.05)

    async def scene() -> None:
        async with serving() as (world, client):
            reader, writer = await connect(world)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
            assert await asyncio.wait_for(reader.read(), LIMIT_S) == b""
            writer.close()
            async with client.ws_connect("/api/live") as live:  # which stays, though it says nothing
                await asyncio.wait_for(connect_again(world), LIMIT_S)
                assert not live.closed

    run(scene())


async def connect_again(world: WebWorld) -> None:
    """Another idle connection that is closed: so the time of one that was made before is over too."""
    reader, writer = await connect(world)
    assert await reader.read() == b""
    writer.close()
