"""Desk calls between processes: values, refusals, cancellation, the other end's death, events."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from foundation.desk_client import EVENTS_UNREAD
from foundation.desk_messages import Hello, encode, methods_of
from foundation.desk_socket import DeskClient, DeskFailed, DeskServer, EventQueue
from foundation.desks import (
    Budget,
    CodecDescription,
    ConferenceDesk,
    MediaDescription,
    MediaSection,
    ParticipantSpec,
    Refusal,
    RefusalKind,
    SectionKind,
)
from foundation.events import BusReconnected, ConferenceEnded, Event, SpeakersChanged, WorkerLost
from foundation.private_socket import FrameReader, FrameTooLong, frame, listen


@dataclass(frozen=True, slots=True)
class Parcel:
    name: str
    weights: tuple[float, ...] = ()


class ParcelDesk(Protocol):
    async def weigh(self, parcel: Parcel, factor: float = 1.0, *, note: str | None = None) -> Parcel: ...

    async def refuse(self, retry_after: int | None) -> None: ...

    async def break_down(self) -> int: ...

    async def lie(self) -> int: ...

    async def wait(self, name: str) -> str: ...

    async def fill(self, size: int) -> bytes: ...


class Parcels:
    """Fulfils ParcelDesk; `wait` waits until `release` or until cancelled."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.cancelled: list[str] = []
        self.changed = asyncio.Event()
        self.release = asyncio.Event()

    async def weigh(self, parcel: Parcel, factor: float = 1.0, *, note: str | None = None) -> Parcel:
        return Parcel(note or parcel.name, tuple(weight * factor for weight in parcel.weights))

    async def refuse(self, retry_after: int | None) -> None:
        raise Refusal(RefusalKind.NO_CAPACITY, "链路 is full", retry_after)

    async def break_down(self) -> int:
        raise KeyError("lost")

    async def lie(self) -> object:
        return "seven"

    async def wait(self, name: str) -> str:
        self.waiting.append(name)
        self.changed.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            self.changed.set()
            raise
        return name

    async def fill(self, size: int) -> bytes:
        return bytes(size)

    async def until(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not wanted():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def served(path: Path, parcels: Parcels) -> AsyncIterator[tuple[DeskServer, DeskClient, ParcelDesk]]:
    async with DeskServer(path, {"ParcelDesk": (ParcelDesk, parcels)}) as server:
        client = DeskClient(path)
        await client.connect()
        try:
            yield server, client, client.desk(ParcelDesk)
        finally:
            await client.aclose()


# --- frames -------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(1, 9), min_size=1))
def test_frames_come_out_whole_however_they_are_split(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frame(payload) for payload in payloads)
    reader = FrameReader(40)
    out: list[bytes] = []
    position = 0
    while position < len(stream):
        step = cuts[position % len(cuts)]
        out += reader.feed(stream[position : position + step])
        position += step
    assert out == payloads


def test_a_frame_above_the_limit_is_refused_before_it_is_stored() -> None:
    reader = FrameReader(10)
    assert reader.feed(frame(b"0123456789")) == [b"0123456789"]
    with pytest.raises(FrameTooLong, match="11 bytes where 10 are allowed"):
        reader.feed((11).to_bytes(4, "big"))


def test_frames_join_their_parts() -> None:
    assert frame(b"ab", b"", b"c") == b"\x00\x00\x00\x03abc"


# --- the file -----------------------------------------------------------------------------------------


async def test_the_socket_is_for_this_user_only_and_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "desk.socket"
    async with served(path, Parcels()):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


async def test_a_dead_servers_file_is_replaced_and_a_successors_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "desk.socket"
    listen(path).close()  # as after kill -9: the file is there, nobody listens
    parcels = Parcels()
    async with DeskServer(path, {"ParcelDesk": (ParcelDesk, parcels)}):
        path.unlink()
        successor = listen(path)
    assert path.exists()
    successor.close()


def test_what_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("keep me")
    with pytest.raises(FileExistsError, match=r"notes\.txt is there and is not a socket"):
        listen(path)
    assert path.read_text() == "keep me"


def test_a_path_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="at most 107 bytes"):
        listen(tmp_path / ("x" * 120))


async def test_another_users_process_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "desk.socket"
    async with DeskServer(path, {"ParcelDesk": (ParcelDesk, Parcels())}) as server:
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        with pytest.raises(Refusal, match=r"process \d+ of user \d+ is not ours"):
            await DeskClient(path).connect()
        assert not server.abandoned.is_set()  # nobody ever came in


# --- calls --------------------------------------------------------------------------------------------


async def test_values_cross_with_their_types(tmp_path: Path) -> None:
    async with served(tmp_path / "s", Parcels()) as (_, client, desk):
        assert client.pid == os.getpid()
        assert await desk.weigh(Parcel("a", (1.0, 2.5)), 2.0) == Parcel("a", (2.0, 5.0))
        assert await desk.weigh(parcel=Parcel("a"), note="岑溪") == Parcel("岑溪")


async def test_the_conference_desk_can_cross(tmp_path: Path) -> None:
    section = MediaSection(
        SectionKind.VIDEO,
        "192.0.2.1",
        5004,
        codecs=(
            CodecDescription(
                "H264", 96, 90_000, parameters={"packetization-mode": "1"}, feedback=("nack pli",)
            ),
        ),
        extensions={3: "urn:ietf:params:rtp-hdrext:sdes:mid"},
    )
    offer = MediaDescription((section,), bandwidth_bps=3_000_000)
    participant = ParticipantSpec("p", "c", "岑溪", "extranet", Budget(3_000_000, 2_000_000))
    seen: list[object] = []

    class Meetings:
        async def admit(self, *values: object, **named: object) -> MediaDescription:
            seen.append(named)
            return offer

    path = tmp_path / "s"
    async with DeskServer(path, {"ConferenceDesk": (ConferenceDesk, Meetings())}):
        client = DeskClient(path)
        desk = client.desk(ConferenceDesk)
        await client.connect()
        assert await desk.admit(participant, offer) == offer
        assert seen == [{"participant": participant, "offer": offer, "resume": None}]
        await client.aclose()


async def test_a_refusal_crosses_as_it_is(tmp_path: Path) -> None:
    async with served(tmp_path / "s", Parcels()) as (_, _, desk):
        for retry_after in (None, 7):
            with pytest.raises(Refusal) as caught:
                await desk.refuse(retry_after)
            refusal = caught.value
            assert (refusal.kind, refusal.detail) == (RefusalKind.NO_CAPACITY, "链路 is full")
            assert refusal.retry_after == retry_after


async def test_a_defect_over_there_is_named_and_the_connection_lives(tmp_path: Path) -> None:
    async with served(tmp_path / "s", Parcels()) as (_, client, desk):
        with pytest.raises(DeskFailed, match=r"desk failed: ParcelDesk\.break_down: KeyError: 'lost'"):
            await desk.break_down()
        with pytest.raises(DeskFailed, match=r"answer of ParcelDesk\.lie is not as declared: Expected `int`"):
            await desk.lie()
        with pytest.raises(DeskFailed, match=r"answer of ParcelDesk\.fill is too long: 5000\d\d\d bytes"):
            await desk.fill(5_000_000)
        with pytest.raises(DeskFailed, match=r"arguments of ParcelDesk\.wait are too long"):
            await desk.wait("x" * 5_000_000)
        with pytest.raises(
            DeskFailed, match=r"desk failed: ParcelDesk\.wait: ValidationError: Expected `str`"
        ):
            await desk.wait(5)  # type: ignore[arg-type] # the caller errs
        with pytest.raises(DeskFailed, match=r"there is no Nothing\.weigh at s"):
            await client.desk(ParcelDesk, "Nothing").weigh(Parcel("a"))
        with pytest.raises(TypeError, match="missing a required argument: 'name'"):
            await desk.wait()  # type: ignore[call-arg] # the caller errs
        assert len(await desk.fill(1_000_000)) == 1_000_000


async def test_many_calls_are_in_flight_and_answers_find_their_callers(tmp_path: Path) -> None:
    parcels = Parcels()
    async with served(tmp_path / "s", parcels) as (_, _, desk), asyncio.TaskGroup() as group:
        calls = [group.create_task(desk.wait(str(number))) for number in range(300)]
        await parcels.until(lambda: len(parcels.waiting) == 300)
        assert await desk.weigh(Parcel("quick")) == Parcel("quick")
        parcels.release.set()
        assert [await call for call in calls] == [str(number) for number in range(300)]


async def test_more_calls_than_the_bound_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foundation.desk_client.CALLS_IN_FLIGHT", 2)
    parcels = Parcels()
    async with served(tmp_path / "s", parcels) as (_, _, desk), asyncio.TaskGroup() as group:
        first = group.create_task(desk.wait("a"))
        group.create_task(desk.wait("b"))
        await parcels.until(lambda: len(parcels.waiting) == 2)
        with pytest.raises(Refusal) as caught:
            await desk.wait("c")
        assert (caught.value.kind, caught.value.retry_after) == (RefusalKind.NO_CAPACITY, 1)
        parcels.release.set()
        assert await first == "a"
        assert await desk.wait("d") == "d"


async def test_a_server_runs_so_many_calls_at_once_and_the_rest_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foundation.desk_server.CALLS_IN_FLIGHT", 3)
    parcels = Parcels()
    async with served(tmp_path / "s", parcels) as (_, _, desk), asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(desk.wait(str(number)))
        await parcels.until(lambda: len(parcels.waiting) == 3)
        later = group.create_task(desk.wait("later"))
        await asyncio.sleep(0.05)  # nothing is to happen
        assert len(parcels.waiting) == 3
        parcels.release.set()
        assert await later == "later"


async def test_cancelling_here_cancels_there(tmp_path: Path) -> None:
    parcels = Parcels()
    async with served(tmp_path / "s", parcels) as (_, _, desk):
        call = asyncio.create_task(desk.wait("a"))
        await parcels.until(lambda: parcels.waiting == ["a"])
        call.cancel()
        await parcels.until(lambda: parcels.cancelled == ["a"])
        assert await desk.weigh(Parcel("still there")) == Parcel("still there")


async def test_a_silent_desk_is_a_lost_worker_after_the_time_limit(tmp_path: Path) -> None:
    parcels = Parcels()
    async with served(tmp_path / "media-0.socket", parcels) as (_, client, _):
        desk = client.desk(ParcelDesk, timeout=0.05)
        with pytest.raises(
            Refusal, match=r"media-0 did not answer ParcelDesk\.wait within 0\.05 s"
        ) as caught:
            await desk.wait("a")
        assert caught.value.kind is RefusalKind.WORKER_LOST
        await parcels.until(lambda: parcels.cancelled == ["a"])
        assert not client.closed.is_set()


# --- death and return -----------------------------------------------------------------------------------


async def test_without_a_server_calls_are_refused_and_connecting_gives_up_in_time(tmp_path: Path) -> None:
    client = DeskClient(tmp_path / "media-0.socket")
    assert client.closed.is_set()
    with pytest.raises(Refusal, match="media-0 is not there") as caught:
        await client.desk(ParcelDesk).weigh(Parcel("a"))
    assert caught.value.kind is RefusalKind.WORKER_LOST
    with pytest.raises(Refusal, match="media-0 cannot be reached: No such file or directory"):
        await client.connect(wait=0.05)


async def test_a_socket_behind_which_nobody_speaks_is_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that hangs, or is being torn down, still has its listening socket for a moment."""
    monkeypatch.setattr("foundation.desk_client.GREETING_LIMIT", 0.05)
    path = tmp_path / "media-0.socket"
    client = DeskClient(path)
    with listen(path) as listener:
        listener.listen()
        with pytest.raises(Refusal, match="media-0 cannot be reached: it does not answer"):
            await client.connect()
        connecting = asyncio.create_task(client.connect(wait=5))
        first, _ = await asyncio.get_running_loop().sock_accept(listener)
        first.close()
        await asyncio.sleep(0.05)
        assert not connecting.done()
        assert client.closed.is_set()
    async with DeskServer(path, {"ParcelDesk": (ParcelDesk, Parcels())}):
        assert await connecting == os.getpid()
        await client.aclose()


async def test_the_same_desk_works_again_with_the_next_server(tmp_path: Path) -> None:
    path = tmp_path / "s"
    client = DeskClient(path)
    desk = client.desk(ParcelDesk)
    for number in range(2):
        parcels = Parcels()
        connecting = asyncio.create_task(client.connect(wait=5))
        async with DeskServer(path, {"ParcelDesk": (ParcelDesk, parcels)}):
            assert await connecting == os.getpid()
            assert await client.connect() == os.getpid()  # already there
            assert await desk.weigh(Parcel(str(number))) == Parcel(str(number))
        await client.closed.wait()
        assert client.pid is None
    await client.aclose()


async def test_leaving_refuses_what_is_in_flight_and_ends_the_events(tmp_path: Path) -> None:
    parcels = Parcels()
    async with served(tmp_path / "s", parcels) as (server, client, desk):
        call = asyncio.create_task(desk.wait("a"))
        await parcels.until(lambda: parcels.waiting == ["a"])
        assert not server.abandoned.is_set()
        await client.aclose()
        with pytest.raises(Refusal, match="went away in the middle of a call"):
            await call
        assert [event async for event in client.events] == []
        await parcels.until(lambda: parcels.cancelled == ["a"])
        await server.abandoned.wait()


SERVER = """
import asyncio, sys
from pathlib import Path
from foundation.desk_socket import DeskServer
from tests.foundation.test_desk_socket import ParcelDesk, Parcels

async def main():
    async with DeskServer(Path(sys.argv[1]), {"ParcelDesk": (ParcelDesk, Parcels())}):
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_killed_server_process_is_noticed_at_once(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "media-0.socket"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, str(path))
    client = DeskClient(path)
    try:
        assert await client.connect(wait=20) == process.pid
        desk = client.desk(ParcelDesk)
        calls = [asyncio.create_task(desk.wait(str(n))) for n in range(3)]
        assert await desk.weigh(Parcel("a")) == Parcel("a")  # by now the waiting calls are there too
        loop = asyncio.get_running_loop()
        killed = loop.time()
        process.send_signal(number)
        results = await asyncio.gather(*calls, return_exceptions=True)
        await client.closed.wait()
        assert loop.time() - killed < 1.0
        assert [result.kind for result in results if isinstance(result, Refusal)] == [
            RefusalKind.WORKER_LOST
        ] * 3
    finally:
        if process.returncode is None and number is not signal.SIGKILL:
            process.kill()
        await process.wait()
        await client.aclose()


# --- events ---------------------------------------------------------------------------------------------


async def test_events_reach_every_client_in_order(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with served(path, Parcels()) as (server, first, _):
        second = DeskClient(path)
        await second.connect()
        await second.desk(ParcelDesk).weigh(Parcel("a"))  # the server knows it by now
        sent = [
            SpeakersChanged("8001", ("a", "b")),
            ConferenceEnded("8001", "结束"),
            WorkerLost("media-0", "killed"),
        ]
        for event in sent:
            server.announce(event)
        for client in (first, second):
            assert [await anext(client.events) for _ in sent] == sent
        await second.aclose()


async def test_a_client_that_does_not_read_misses_events_and_learns_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with served(path, Parcels()) as (server, client, desk):
        await desk.weigh(Parcel("a"))
        connection = client._connection
        assert connection is not None
        assert connection._transport is not None
        connection._transport.pause_reading()
        event = ConferenceEnded("8001", "x" * 10_000)
        sent = 0
        while not server.events_missed:
            server.announce(event)
            sent += 1
            assert sent < 1000  # bounded: a few hundred kilobytes, then dropped
        server.announce(event)
        connection._transport.resume_reading()
        seen: list[Event] = [await anext(client.events) for _ in range(sent)]
        assert seen.count(event) == sent - 1
        assert seen.count(BusReconnected()) == 1
        assert (server.events_missed, client.events.missed) == (2, 2)
        server.announce(WorkerLost("a", "b"))
        assert await anext(client.events) == WorkerLost("a", "b")


async def test_an_unread_queue_drops_its_oldest_and_says_so_first() -> None:
    queue = EventQueue(length=2)
    for number in range(4):
        queue.put(WorkerLost(str(number), ""))
    queue.end()
    assert [event async for event in queue] == [BusReconnected(), WorkerLost("2", ""), WorkerLost("3", "")]
    assert queue.missed == 2
    assert EVENTS_UNREAD > 1000


# --- strangers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nonsense", [b"\xff\xff\xff\xff", frame(b"\xc1"), frame(b"\x93\x09\x01\x02"), frame(b"")]
)
async def test_nonsense_closes_that_connection_only(tmp_path: Path, nonsense: bytes) -> None:
    path = tmp_path / "s"
    async with served(path, Parcels()) as (_, _, desk):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(nonsense)
        assert await reader.read() == frame(encode(Hello()))
        writer.close()
        assert await desk.weigh(Parcel("a")) == Parcel("a")


def test_a_protocol_that_cannot_cross_is_refused_when_bound() -> None:
    class Blocking(Protocol):
        def ask(self) -> int: ...

    class Loose(Protocol):
        async def ask(self, *values: int) -> int: ...

    with pytest.raises(TypeError, match=r"Blocking\.ask is not a coroutine"):
        methods_of(Blocking)
    with pytest.raises(TypeError, match=r"Loose\.ask takes arguments without names"):
        methods_of(Loose)


def test_it_works_on_uvloop_too(tmp_path: Path) -> None:
    async def main() -> None:
        parcels = Parcels()
        async with served(tmp_path / "s", parcels) as (server, client, desk):
            assert client.pid == os.getpid()
            assert await desk.weigh(Parcel("a", (1.0,)), 3.0) == Parcel("a", (3.0,))
            server.announce(WorkerLost("a", "b"))
            assert await anext(client.events) == WorkerLost("a", "b")

    uvloop.run(main())
