"""Live events over /ws: who hears of what, slow readers, ended sessions, foreign pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from structlog.testing import capture_logs

from foundation.address_bounds import AddressBounds
from foundation.authorisation import Role
from foundation.database import DatabaseUnavailable
from foundation.events import (
    BroadcastChanged,
    BusReconnected,
    CameraStateChanged,
    ConferenceChanged,
    ConferenceOpened,
    Event,
    ParticipantChanged,
    RecordingAlarm,
    RenegotiationNeeded,
    SpeakersChanged,
    ViolationFlagged,
    WorkerLost,
)
from foundation.http_edge import Exchange
from foundation.identity import Session, SessionKind
from orchestrator import live_events
from orchestrator.web_app import Edge
from tests.orchestrator.http_service import Service, serving, settings_with

Socket = ClientWebSocketResponse[bool]


def listening(service: Service, headers: dict[str, str]) -> AbstractAsyncContextManager[Socket]:
    return service.client.ws_connect("/ws", headers=headers)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the service tells nobody else when a socket has ended
            await asyncio.sleep(0.005)


async def heard(socket: Socket) -> dict[str, Any]:
    async with asyncio.timeout(5):
        found: dict[str, Any] = await socket.receive_json()
    return found


async def until_resync(service: Service, *sockets: Socket) -> list[list[dict[str, Any]]]:
    """All that each socket has heard so far."""
    service.bus.publish(BusReconnected())
    found = []
    for socket in sockets:
        mine: list[dict[str, Any]] = []
        while (message := await heard(socket))["type"] != "BusReconnected":
            mine.append(message)
        found.append(mine)
    return found


def origin(service: Service, scheme: str = "https") -> dict[str, str]:
    return {"Origin": f"{scheme}://127.0.0.1:{service.client.port}"}


def upgrade(headers: dict[str, str]) -> bytes:
    """The request as bytes, for a peer that keeps less to the rules than aiohttp's client."""
    fields = {
        "Host": "gx",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        **headers,
    }
    lines = [f"{name}: {value}\r\n" for name, value in fields.items()]
    return ("GET /ws HTTP/1.1\r\n" + "".join(lines) + "\r\n").encode()


async def closed_with(socket: Socket) -> tuple[int, str]:
    async with asyncio.timeout(5):
        while True:
            message = await socket.receive()
            if message.type is WSMsgType.CLOSE:
                return message.data, message.extra
            assert message.type is WSMsgType.TEXT, message


# --- who hears of what --------------------------------------------------------------------------------


async def test_events_are_json_with_their_fields(service: Service) -> None:
    liu = await service.user(Role.VIEWER)
    meeting = await service.meeting()
    one = meeting.conference_id
    events: list[Event] = [
        ConferenceOpened(one),
        ParticipantChanged(one, "p1", "connected"),
        SpeakersChanged(one, ("p1", "p2")),
        RenegotiationNeeded(one, "p1"),
        ConferenceChanged(one),
        WorkerLost("media-0", "killed"),
    ]
    async with listening(service, liu.bearer) as socket:
        for event in events:
            service.bus.publish(event)
        (messages,) = await until_resync(service, socket)
    assert messages == [
        {"type": "ConferenceOpened", "conference_id": one},
        {"type": "ParticipantChanged", "conference_id": one, "participant_id": "p1", "state": "connected"},
        {"type": "SpeakersChanged", "conference_id": one, "participant_ids": ["p1", "p2"]},
        {"type": "RenegotiationNeeded", "conference_id": one, "participant_id": "p1"},
        {"type": "ConferenceChanged", "conference_id": one},
    ]


async def test_each_hears_of_the_meetings_of_the_own_jurisdiction(service: Service) -> None:
    province = await service.user(Role.OPERATOR, site="guangxi")
    city = await service.user(Role.VIEWER, site="nanning")
    granted = await service.user(Role.VIEWER, name="granted", site="guangdong", grants="cenxi")
    auditor = await service.user(Role.AUDITOR)
    async with (
        listening(service, province.bearer) as high,
        listening(service, city.bearer) as low,
        listening(service, granted.bearer) as far,
        listening(service, auditor.bearer) as none,
    ):
        opened = {site: await service.meeting(site) for site in ("guangxi", "nanning", "cenxi", "guangdong")}
        found = await until_resync(service, high, low, far, none)
    names = {meeting.conference_id: site for site, meeting in opened.items()}
    sites = [[names[message["conference_id"]] for message in messages] for messages in found]
    assert sites == [["guangxi", "nanning", "cenxi"], ["nanning", "cenxi"], ["cenxi", "guangdong"], []]


async def test_things_of_a_site_are_heard_of_by_those_who_may_see_them(service: Service) -> None:
    monitor = await service.user(Role.MONITOR, name="monitor", site="nanning")
    foreign = await service.user(Role.MONITOR, name="foreign", site="guangdong")
    viewer = await service.user(Role.VIEWER, name="viewer", site="nanning")
    guest, _ = await service.guest(await service.meeting())
    events: list[Event] = [
        CameraStateChanged("gate", "cenxi", "playing"),
        ViolationFlagged("v1", "gate", "cenxi", "loitering"),
        RecordingAlarm("camera", "gate", "cenxi", "disk full", "no room"),
        BroadcastChanged("b1", "cenxi", "running"),
    ]
    async with (
        listening(service, monitor.bearer) as one,
        listening(service, foreign.bearer) as two,
        listening(service, viewer.bearer) as three,
        listening(service, guest) as four,
    ):
        for event in events:
            service.bus.publish(event)
        found = await until_resync(service, one, two, three, four)
    assert [[message["type"] for message in messages] for messages in found] == [
        ["CameraStateChanged", "ViolationFlagged", "RecordingAlarm", "BroadcastChanged"],
        [],
        ["RecordingAlarm", "BroadcastChanged"],
        [],
    ]
    assert found[0][1] == {
        "type": "ViolationFlagged",
        "violation_id": "v1",
        "camera_id": "gate",
        "site_id": "cenxi",
        "kind": "loitering",
    }


async def test_guest_hears_of_its_own_meeting_only(service: Service) -> None:
    mine, other = await service.meeting(), await service.meeting()
    headers, _ = await service.guest(mine)
    async with listening(service, headers) as socket:
        service.bus.publish(ParticipantChanged(other.conference_id, "p1", "connected"))
        service.bus.publish(ParticipantChanged(mine.conference_id, "p2", "connected"))
        (messages,) = await until_resync(service, socket)
    assert [message["participant_id"] for message in messages] == ["p2"]


async def test_end_of_a_meeting_is_heard_although_it_runs_no_more(service: Service) -> None:
    liu = await service.user(Role.VIEWER)
    meeting = await service.meeting()
    async with listening(service, liu.bearer) as socket:
        await service.meetings.end(meeting.conference_id, "over")
        assert await heard(socket) == {
            "type": "ConferenceEnded",
            "conference_id": meeting.conference_id,
            "reason": "over",
        }


async def test_event_of_an_unknown_meeting_is_heard_by_nobody(service: Service) -> None:
    liu = await service.user(Role.VIEWER, site="guangxi")
    async with listening(service, liu.bearer) as socket:
        service.bus.publish(ConferenceChanged("nonsense"))
        assert await until_resync(service, socket) == [[]]


async def test_rights_taken_away_are_events_taken_away(service: Service) -> None:
    liu = await service.user(Role.VIEWER, name="liu", site="nanning")
    admin = await service.user(Role.SECURITY_ADMIN)
    meeting = await service.meeting("nanning")
    async with listening(service, liu.bearer) as socket:
        change = await service.client.patch(
            f"/api/v1/users/{liu.user.id}", json={"site_id": "cenxi"}, headers=admin.bearer
        )
        assert change.status == 200
        messages: list[dict[str, Any]] | None = None
        async with asyncio.timeout(5):
            while messages != []:
                service.bus.publish(ConferenceChanged(meeting.conference_id))
                (messages,) = await until_resync(service, socket)


async def test_failure_to_find_the_host_asks_all_to_read_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_conference_id: str) -> str | None:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(service.live, "_host_site", fail)
    liu = await service.user(Role.VIEWER)
    async with listening(service, liu.bearer) as socket:
        service.bus.publish(ConferenceChanged("some-meeting"))
        assert await heard(socket) == {"type": "BusReconnected"}
        assert await until_resync(service, socket) == [[]]  # and the relay still runs


# --- who may listen -----------------------------------------------------------------------------------


async def test_page_listens_with_its_cookie(service: Service) -> None:
    liu = await service.user(Role.VIEWER)
    async with listening(service, {**liu.cookie, **origin(service)}) as socket:
        assert await until_resync(service, socket) == [[]]


@pytest.mark.parametrize(
    "foreign",
    [
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "https://127.0.0.1"},
        {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"},
    ],
)
async def test_page_of_a_stranger_does_not_listen_with_our_cookie(
    service: Service, foreign: dict[str, str]
) -> None:
    liu = await service.user(Role.VIEWER)
    with pytest.raises(WSServerHandshakeError) as refused:
        await service.client.ws_connect("/ws", headers={**liu.cookie, **foreign})
    assert refused.value.status == 403
    plain = {**liu.cookie, **origin(service, "http")}
    with pytest.raises(WSServerHandshakeError):
        await service.client.ws_connect("/ws", headers=plain)
    assert len(service.live) == 0


async def test_page_behind_a_proxy_and_at_the_external_address(sqlite_file: Path) -> None:
    settings = settings_with(
        tls=False, trusted_proxies=("127.0.0.1",), external_url="https://meet.gx.example:8443"
    )
    async with serving(sqlite_file, settings=settings) as service:
        liu = await service.user(Role.VIEWER)
        for extra in (
            {"Origin": "https://MEET.gx.example:8443"},
            {"Origin": "https://other.example", "X-Forwarded-Host": "other.example:443"},
        ):
            async with listening(service, {**liu.cookie, **extra}):
                pass


async def test_nobody_listens_without_a_session(service: Service) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        with pytest.raises(WSServerHandshakeError) as refused:
            await service.client.ws_connect("/ws", headers={**headers, **origin(service)})
        assert refused.value.status == 401


async def test_sockets_of_one_caller_are_counted(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_events, "MAX_SOCKETS_OF_ONE", 1)
    liu = await service.user(Role.VIEWER, name="liu")
    wang = await service.user(Role.VIEWER, name="wang")
    async with listening(service, liu.bearer):
        with pytest.raises(WSServerHandshakeError) as refused:
            await service.client.ws_connect("/ws", headers=liu.bearer)
        assert refused.value.status == 503
        async with listening(service, wang.bearer):
            pass
    await until(lambda: len(service.live) == 0)
    async with listening(service, liu.bearer):
        pass


async def test_sockets_of_one_address_are_counted(service: Service) -> None:
    service.live._crowd = AddressBounds(1, local=())
    liu = await service.user(Role.VIEWER, name="liu")
    wang = await service.user(Role.VIEWER, name="wang")
    async with listening(service, liu.bearer):
        with pytest.raises(WSServerHandshakeError) as refused:
            await service.client.ws_connect("/ws", headers=wang.bearer)
        assert refused.value.status == 503
    await until(lambda: len(service.live) == 0)
    async with listening(service, wang.bearer):
        pass


# --- ends ---------------------------------------------------------------------------------------------


async def test_slow_reader_is_closed_and_the_others_are_not(sqlite_file: Path) -> None:
    async with serving(sqlite_file, queue_length=10) as service:
        liu, wang = await service.user(Role.VIEWER, name="liu"), await service.user(Role.VIEWER, name="wang")
        meeting = await service.meeting()
        async with listening(service, liu.bearer) as slow:
            for number in range(12):  # in one go: nothing is sent between two of them
                event = ParticipantChanged(meeting.conference_id, f"p{number}", "connected")
                service.live._deliver(event, await service.live._question(event))
            assert await closed_with(slow) == (1013, "too slow; come again and read the rows")
        assert 'anshi_dropped_total{queue="live_events"} 2.0' in service.telemetry.exposition().decode()
        async with listening(service, wang.bearer) as quick:
            assert await until_resync(service, quick) == [[]]


async def test_peer_that_reads_nothing_is_cut_off(sqlite_file: Path) -> None:
    """Its receive window is full, so that not even the closing frame gets through."""
    async with serving(sqlite_file, queue_length=10) as service:
        liu = await service.user(Role.VIEWER, name="liu")
        meeting = await service.meeting()
        reader, writer = await asyncio.open_connection("127.0.0.1", service.client.port, limit=1024)
        writer.write(upgrade(liu.bearer))
        assert b" 101 " in await reader.readline()
        event = SpeakersChanged(meeting.conference_id, tuple(f"participant-{n:020}" for n in range(2000)))
        (socket,) = service.live._sockets
        transport = socket.exchange.request.transport
        assert transport is not None
        async with asyncio.timeout(10):
            while len(service.live):
                service.bus.publish(event)
                await asyncio.sleep(0.001)
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0  # thrown away, not kept for whoever does not read
        writer.close()


async def test_peer_that_leaves_during_the_upgrade_is_no_failure_of_ours(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    liu = await service.user(Role.VIEWER)
    resolve, asked, gone = service.identity.resolve, asyncio.Event(), asyncio.Event()

    async def slowly(token: str, kind: SessionKind) -> Session | None:
        asked.set()
        await gone.wait()
        return await resolve(token, kind)

    monkeypatch.setattr(service.identity, "resolve", slowly)
    server, tasks = service.client.server.handler, asyncio.all_tasks()
    monkeypatch.setattr(
        server, "handler_cancellation", False
    )  # as the service has it; aiohttp's test server not
    with capture_logs() as logs:
        _, writer = await asyncio.open_connection("127.0.0.1", service.client.port)
        writer.write(upgrade(liu.bearer))
        async with asyncio.timeout(5):
            await asked.wait()
        (connection,) = server.connections
        writer.transport.abort()
        await until(lambda: connection.transport is None)
        gone.set()
        await until(lambda: asyncio.all_tasks() <= tasks)
    assert logs == []
    assert len(service.live) == 0


async def test_sign_out_ends_the_socket_at_once(service: Service) -> None:
    liu = await service.user(Role.VIEWER)
    async with listening(service, {**liu.cookie, **origin(service)}) as socket:
        await service.client.delete("/api/v1/session", headers=liu.page)
        assert await closed_with(socket) == (4401, "the session is over; sign in again")


async def test_disabled_user_hears_nothing_more(service: Service) -> None:
    liu = await service.user(Role.VIEWER, name="liu")
    admin = await service.user(Role.SECURITY_ADMIN)
    async with listening(service, liu.bearer) as socket:
        await service.client.patch(
            f"/api/v1/users/{liu.user.id}", json={"disabled": True}, headers=admin.bearer
        )
        assert (await closed_with(socket))[0] == 4401


async def test_session_that_runs_out_ends_the_socket(sqlite_file: Path) -> None:
    async with serving(sqlite_file, check_seconds=0.05) as service:
        headers, _ = await service.guest(await service.meeting())
        async with listening(service, headers) as socket:
            service.clock.advance(13 * 3600)
            assert await closed_with(socket) == (4401, "the guest pass is over; join again")


async def test_a_check_that_fails_as_nobody_foresaw_is_not_the_last(
    sqlite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identify, failed = Edge.identify, asyncio.Event()

    async def stumble(edge: Edge, exchange: Exchange) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError("a driver's own error")
        await identify(edge, exchange)

    async with serving(sqlite_file, check_seconds=3600) as service:
        liu = await service.user(Role.VIEWER)
        async with listening(service, {**liu.cookie, **origin(service)}) as socket:
            monkeypatch.setattr(Edge, "identify", stumble)
            service.live.sessions_changed()
            async with asyncio.timeout(5):
                await failed.wait()
            await service.client.delete("/api/v1/session", headers=liu.page)
            assert await closed_with(socket) == (4401, "the session is over; sign in again")


async def test_service_says_goodbye(sqlite_file: Path) -> None:
    async with serving(sqlite_file) as service:
        liu = await service.user(Role.VIEWER)
        async with listening(service, liu.bearer) as socket:
            closing = asyncio.create_task(service.client.server.close())
            assert await closed_with(socket) == (1001, "the service stops")
            await socket.close()
            async with asyncio.timeout(5):
                await closing
        assert len(service.live) == 0


async def test_heartbeat_finds_a_dead_peer(sqlite_file: Path) -> None:
    """A peer that answers no ping is let go."""
    async with serving(sqlite_file, heartbeat=0.1) as service:
        liu = await service.user(Role.VIEWER)
        async with service.client.ws_connect("/ws", headers=liu.bearer, autoping=False):
            assert len(service.live) == 1
            await until(lambda: len(service.live) == 0)


async def test_what_pages_say_is_ignored_and_novels_are_refused(service: Service) -> None:
    liu = await service.user(Role.VIEWER)
    async with listening(service, liu.bearer) as socket:
        await socket.send_str("hello")
        assert await until_resync(service, socket) == [[]]
        await socket.send_str("x" * 5000)
        assert (await closed_with(socket))[0] == 1009
