"""Calls of ours by TLS that offer SRTP with keys in the description: taken, refused, required."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config.trunks import SipTrunk
from foundation.clock import FakeClock
from foundation.desks import CryptoKey, Dialled, MediaDescription
from foundation.passwords import Passwords
from signaling.sip_dialling import CallFailed
from signaling.sip_listener import ListenerSettings, NoWay
from signaling.sip_service import SipService
from signaling.trunks.trunk import TrunkState
from tests.peers.waiting import until_true
from tests.signaling.house import OURS, House
from tests.signaling.sip_raw import ANSWER
from tests.signaling.stream_provider import StreamProvider
from tests.signaling.switchboard import switchboard
from tests.signaling.test_sip_listener import certificate

KEY = CryptoKey(1, "AES_CM_128_HMAC_SHA1_80", "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj")
SECURED = MediaDescription((replace(OURS.sections[0], protocol="RTP/SAVP", crypto=(KEY,)),))
LINE = f"a=crypto:1 {KEY.suite} inline:{KEY.key}\r\n".encode()


@asynccontextmanager
async def served(
    house: House,
    clock: FakeClock,
    passwords: Passwords,
    folder: Path,
    *,
    trusted: bool = True,
    **changes: Any,
) -> AsyncIterator[tuple[StreamProvider, SipService]]:
    """`trusted` False: the node does not know the provider's certificate, and takes any from its server."""
    ours, theirs = certificate(folder, "anshi"), certificate(folder, "provider")
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    server.load_cert_chain(*theirs)
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    if trusted:
        client.load_verify_locations(theirs[0])
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(*ours)
    provider = StreamProvider()
    listening = await asyncio.start_server(provider.serve, "127.0.0.1", 0, ssl=server)
    trunk = SipTrunk(
        name="telecom", server="127.0.0.1", port=listening.sockets[0].getsockname()[1], transport="tls",
        register=False, identity="0771", prefixes=("",), **changes,
    )  # fmt: skip
    servers = () if trusted else (("127.0.0.1", blind),)
    listener = ListenerSettings("lo", "127.0.0.1", 0, 0, 0, tls=own, tls_client=client, tls_servers=servers)
    house.desks["media-0"]._ours = SECURED
    async with switchboard(house, clock, passwords, listener=listener, trunks=[trunk]) as service:
        await until_true(
            lambda: service.trunks.reports()[0].state is TrunkState.REACHABLE,
            "the trunk",
            5.0,
            lambda: str(service.trunks.reports()),
        )
        yield provider, service
    listening.close()


async def test_keys_are_offered_and_taken(
    house: House, clock: FakeClock, passwords: Passwords, tmp_path: Path
) -> None:
    async with served(house, clock, passwords, tmp_path, srtp="required") as (provider, service):
        member = await service.calls.dial(house.meeting.conference_id, "114", None, None)
        assert house.desks["media-0"].dialled == {member.participant_id: Dialled.SECURED}
        invite = await provider.invite()
        assert b"RTP/SAVP 8" in invite.body
        assert LINE in invite.body
        provider.answer(invite, 200, ANSWER.replace(b"RTP/AVP", b"RTP/SAVP") + LINE)
        await until_true(lambda: member.media is not None, "the telephone", 5.0)


async def test_without_keys_where_they_are_refused(
    house: House, clock: FakeClock, passwords: Passwords, tmp_path: Path
) -> None:
    async with served(house, clock, passwords, tmp_path, srtp="offered") as (provider, service):
        member = await service.calls.dial(house.meeting.conference_id, "114", None, None)
        provider.answer(await provider.invite(), 488)
        again = await provider.invite()
        assert b"RTP/AVP 8" in again.body
        assert b"a=crypto" not in again.body
        provider.answer(again, 200, ANSWER)
        await until_true(lambda: member.media is not None, "the telephone", 5.0)


async def test_no_plain_answer_where_keys_are_required(
    house: House, clock: FakeClock, passwords: Passwords, tmp_path: Path
) -> None:
    async with served(house, clock, passwords, tmp_path, srtp="required") as (provider, service):
        member = await service.calls.dial(house.meeting.conference_id, "114", None, None)
        provider.answer(await provider.invite(), 200, ANSWER)
        async with asyncio.timeout(5.0):
            bye = await provider.byes.get()
        assert "no SRTP" in (bye.headers.get("Reason") or "")
        await until_true(lambda: member.participant_id not in house.meeting.members, "it to be out", 5.0)


async def test_a_network_that_requires_keys_calls_nobody_without_tls(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    async with switchboard(house, clock, passwords, srtp={"lo": "required"}) as service:
        with pytest.raises(CallFailed, match="requires SRTP"):
            await service.calls.dial(house.meeting.conference_id, "sip:room@192.0.2.1", None, None)


async def test_a_server_with_another_name_is_not_trusted(
    house: House, clock: FakeClock, passwords: Passwords, tmp_path: Path
) -> None:
    async with served(house, clock, passwords, tmp_path) as (_provider, service):
        listener = service.endpoint.listeners["lo"]
        (server,) = {flow.port for flow in [service.trunks._trunks[0].flow] if flow is not None}
        listener._by_address.clear()
        with pytest.raises(NoWay, match="certificate"):
            await listener.connect("TLS", "127.0.0.1", server, "other.example")


async def test_a_server_that_nobody_verifies_is_called_and_its_connection_is_nobody_elses(
    house: House, clock: FakeClock, passwords: Passwords, tmp_path: Path
) -> None:
    async with served(house, clock, passwords, tmp_path, trusted=False) as (provider, service):
        member = await service.calls.dial(house.meeting.conference_id, "114", None, None)
        provider.answer(await provider.invite(), 200, ANSWER)
        await until_true(lambda: member.media is not None, "the telephone", 5.0)
        listener = service.endpoint.listeners["lo"]
        flow = service.trunks._trunks[0].flow
        assert flow is not None
        assert await listener.connect("TLS", "127.0.0.1", flow.port, "127.0.0.1") == flow
        with pytest.raises(NoWay, match="certificate"):
            await listener.connect("TLS", "127.0.0.1", flow.port, "room.example.cn")
