"""A visitor's camera over real connections: what it sends, what others see of it, and what is refused."""

import asyncio
import json
import struct
from collections.abc import Coroutine
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from pipeline.wire.messages import Committed, SourceReport
from pipeline.wire.page_link import Wanted
from stages.web.visitors import CLEAN_S, MAX_JPEG_BYTES
from tests.support.broker_world import make_report
from tests.support.web_world import LIMIT_S, WebWorld, make_jpeg, serving, until

MINE, OTHERS = "browser#1", "browser#2"


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 3 * LIMIT_S))


async def make_ready(world: WebWorld, captured: int = 0) -> None:
    """Every capture is there, and the broker has told of it."""
    for source, place in world.visitors.places.items():
        await world.visitors.want(Wanted(source, place.number, ""))
    sources = [
        SourceReport(source, "live", captured, 0, Committed(captured, captured), False, "")
        for source in world.visitors.places
    ]
    later_s = asyncio.get_running_loop().time() + CLEAN_S
    world.visitors.update(make_report(sources=sources), later_s)


async def text(socket: ClientWebSocketResponse, kind: str) -> dict[str, Any]:
    """Return the next message of a kind; what else comes is passed over."""
    while True:
        message = await socket.receive(LIMIT_S)
        assert message.type in (WSMsgType.TEXT, WSMsgType.BINARY), message
        if message.type is WSMsgType.TEXT and (told := json.loads(message.data))["type"] == kind:
            return dict(told)


async def turn_on(socket: ClientWebSocketResponse, key: str = "") -> str:
    await socket.send_json({"camera": "on", "key": key})
    return str((await text(socket, "camera"))["state"])


async def closed(socket: ClientWebSocketResponse) -> int | None:
    """Wait until the server has closed a connection; return with which code."""
    while (await socket.receive(LIMIT_S)).type is not WSMsgType.CLOSE:
        pass
    return socket.close_code


async def own_frame(socket: ClientWebSocketResponse, source: str) -> int:
    await socket.send_json({"next": source})
    while True:
        message = await socket.receive(LIMIT_S)
        if message.type is WSMsgType.BINARY:
            (length,) = struct.unpack("<I", message.data[:4])
            record = json.loads(message.data[4 : 4 + length])
            assert record["source"] == source
            return int(record["frame"])


def test_pictures_go_up_when_they_are_asked_for() -> None:
    async def scene() -> None:
        async with serving([MINE]) as (world, client), client.ws_connect("/api/live") as socket:
            await make_ready(world)
            assert await turn_on(socket) == MINE
            for number in range(1, 4):
                await text(socket, "picture")
                await socket.send_bytes(make_jpeg(number))
                await until(lambda number=number: len(world.given) == number)  # type: ignore[misc]
                assert world.given[-1] == (MINE, number, make_jpeg(number))
                await world.visitors.want(Wanted(MINE, number, ""))
            await socket.send_json({"camera": "off"})
            assert (await text(socket, "camera"))["state"] == "off"

    run(scene())


def test_visitors_see_their_own_pictures_and_no_others() -> None:
    async def scene() -> None:
        async with (
            serving([MINE, OTHERS]) as (world, client),
            client.ws_connect("/api/live") as mine,
            client.ws_connect("/api/live") as other,
            client.ws_connect("/api/live") as viewer,
        ):
            await make_ready(world, captured=5)
            assert [await turn_on(mine), await turn_on(other)] == [MINE, OTHERS]
            for socket in (viewer, other):
                await socket.send_json({"next": MINE})
            await other.send_json({"next": OTHERS})
            await until(lambda: sum(bool(one.wanted) for one in world.hub.viewers) >= 2)
            world.put(4, MINE)  # of the visitor before
            world.put(5, MINE)
            assert await own_frame(mine, MINE) == 5
            world.put(6, OTHERS)
            assert await own_frame(other, OTHERS) == 6
            await viewer.send_json({"next": "clip"})
            await world.put_when_wanted(1)
            assert await own_frame(viewer, "clip") == 1  # all that it gets

    run(scene())


def test_programs_get_nothing_of_visitors() -> None:
    async def scene() -> None:
        async with serving([MINE]) as (world, client):
            answer = await client.get("/api/results")
            await until(lambda: bool(world.hub.readers))
            world.put(1, MINE)
            world.put(2, "clip")
            assert b'"source": "clip"' in await answer.content.readline()
            answer.close()
            for path in ("/api/snapshot.jpg", "/api/stream.mjpg"):
                refused = await client.get(path, params={"source": MINE})
                assert refused.status == 404
                assert "expected one of clip" in await refused.text()
            world.names.remove("clip")
            world.hub.end()  # nobody has to wait for another source
            refused = await client.get("/api/snapshot.jpg")
            assert "visitors' cameras, which they alone see" in await refused.text()

    run(scene())


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage",
        b"",
        make_jpeg(1, side=2000),
        bytes(MAX_JPEG_BYTES + 1),
        '{"camera": "sideways"}',
        '{"camera": "on", "next": "clip"}',
        '{"camera": "on", "key": "' + "k" * 65 + '"}',
        '{"next": "' + "x" * 5000 + '"}',
    ],
    ids=["garbage", "nothing", "huge", "long", "word", "both", "key", "text"],
)
def test_a_hostile_page_is_dropped_and_others_go_on(sent: str | bytes) -> None:
    async def scene() -> None:
        async with serving([MINE, OTHERS]) as (world, client), client.ws_connect("/api/live") as good:
            await make_ready(world)
            assert await turn_on(good) == MINE
            async with client.ws_connect("/api/live") as bad:
                assert await turn_on(bad) == OTHERS
                await text(bad, "picture")
                await (bad.send_str(sent) if isinstance(sent, str) else bad.send_bytes(sent))
                assert await closed(bad) in (1008, 1009)
            await until(lambda: world.visitors.places[OTHERS].camera is None)
            await text(good, "picture")
            await good.send_bytes(make_jpeg(1))
            await until(lambda: bool(world.given))
            assert [one[:2] for one in world.given] == [(MINE, 1)]

    run(scene())


def test_a_page_that_floods_is_dropped() -> None:
    async def scene() -> None:
        async with serving([MINE]) as (world, client), client.ws_connect("/api/live") as socket:
            await make_ready(world)
            assert await turn_on(socket) == MINE
            await text(socket, "picture")
            for number in range(5):
                await socket.send_bytes(make_jpeg(number))
            assert await closed(socket) == 1008

    run(scene())


def test_a_page_without_a_place_sends_no_pictures() -> None:
    async def scene() -> None:
        async with serving([MINE]) as (_, client), client.ws_connect("/api/live") as socket:
            await socket.send_bytes(make_jpeg(1))
            assert await closed(socket) == 1008
        async with serving() as (_, client), client.ws_connect("/api/live") as socket:
            assert (await text(socket, "status"))["state"] == "running"
            await socket.send_json({"camera": "on"})
            assert (await text(socket, "camera"))["state"] == "full"  # this run has no place at all

    run(scene())


def test_a_page_that_waits_is_told_when_its_place_is_there() -> None:
    async def scene() -> None:
        async with serving([MINE]) as (world, client), client.ws_connect("/api/live") as second:
            await make_ready(world)
            async with client.ws_connect("/api/live") as first:
                assert await turn_on(first) == MINE
                assert await turn_on(second) == "full"
            assert (await text(second, "camera"))["state"] == "wait"
            await until(lambda: world.visitors.places[MINE].camera is None)
            await make_ready(world)
            assert (await text(second, "camera"))["state"] == MINE

    run(scene())


@pytest.mark.parametrize(("visitors", "policy"), [([], "camera=()"), ([MINE], "camera=(self)")])
def test_the_page_may_use_the_camera_where_it_asks_for_one(visitors: list[str], policy: str) -> None:
    async def scene() -> None:
        async with serving(visitors) as (_, client):
            header = (await client.get("/")).headers["Permissions-Policy"]
            assert header == f"{policy}, microphone=(), geolocation=()"

    run(scene())
