"""SIP over TCP: messages cut and pipelined, streams that are slow or lost, the connection of a dialog."""

import asyncio
import re

from protocols.sip.message import Request, parse_message
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_incoming import IncomingCall
from signaling.sip_listener import ListenerLimits
from tests.signaling.sip_raw import OFFER, RawPeer, compose, endpoint, take_call


async def _stream(one: SipEndpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port("lo", "TCP"))
    return reader, writer, writer.get_extra_info("sockname")[1]


async def _read_until(reader: asyncio.StreamReader, wanted: bytes, times: int = 1) -> bytes:
    data = b""
    async with asyncio.timeout(3):
        while data.count(wanted) < times:
            piece = await reader.read(65536)
            assert piece, f"closed after {data!r}"
            data += piece
    return data


async def test_tcp_split_into_bytes_and_pipelined() -> None:
    async with endpoint() as one:
        reader, writer, port = await _stream(one)
        invite = compose(port, body=OFFER, transport="TCP").to_bytes()
        for at in range(len(invite)):
            writer.write(invite[at : at + 1])
            if at % 50 == 0:
                await asyncio.sleep(0)
        data = await _read_until(reader, b"SIP/2.0 200 OK")
        assert b"transport=tcp" in data
        many = [
            compose(port, "OPTIONS", transport="TCP", branch=f"z9hG4bK{n}", Call_ID=str(n)) for n in range(20)
        ]
        writer.write(b"\r\n\r\n" + b"".join(message.to_bytes() for message in many) + b"\r\n\r\n")
        data = await _read_until(reader, b"CSeq: 1 OPTIONS", 20)
        assert data.startswith(b"\r\n\r\nSIP/2.0 200 OK")  # the answers to both pings overtake
        writer.close()


async def test_an_invite_of_60_kilobytes_by_both_transports() -> None:
    offers: list[int] = []

    async def on_call(incoming: IncomingCall) -> None:
        offers.append(len(incoming.offer or b""))
        await take_call(incoming)

    big = OFFER + b"a=x-filler:0123456789012345678901234567890123456789\r\n" * 1150
    async with endpoint(on_call) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=big))
        assert (await peer.response(180)).status == 180
        reader, writer, port = await _stream(one)
        writer.write(compose(port, body=big, transport="TCP", Call_ID="raw-2").to_bytes())
        await _read_until(reader, b"SIP/2.0 200 OK")
        assert offers == [len(big)] * 2
        assert len(big) > 60_000
        writer.close()


async def test_a_stream_that_loses_its_framing_is_told_and_closed() -> None:
    async with endpoint() as one:
        reader, writer, port = await _stream(one)
        bad = compose(port, "OPTIONS", transport="TCP").to_bytes().replace(b"Content-Length: 0", b"l: -1")
        writer.write(bad)
        async with asyncio.timeout(3):
            data = await reader.read()
        message = parse_message(data)
        assert not isinstance(message, Request)
        assert (message.status, message.reason) == (400, "Bad Request: Content-Length is not a number: '-1'")
        writer.close()


async def test_slow_and_idle_streams_are_closed() -> None:
    limits = ListenerLimits(first_message=0.2, message=0.2, idle=0.4, connections=2)
    async with endpoint(limits=limits) as one:
        mute, silent, _ = await _stream(one)
        reader, writer, port = await _stream(one)
        third, refused, _ = await _stream(one)
        async with asyncio.timeout(3):
            assert await third.read() == b""
            writer.write(compose(port, "OPTIONS", transport="TCP").to_bytes())
            await _read_until(reader, b"200 OK")
            assert await mute.read() == b""
            assert await reader.read() == b""
        counters = one.listeners["lo"].counters
        assert (counters.connections_slow, counters.connections_refused) == (2, 1)
        for one_writer in (silent, writer, refused):
            one_writer.close()


async def test_a_dialog_over_tcp_uses_the_connection_of_the_caller() -> None:
    async with endpoint() as one:
        reader, writer, port = await _stream(one)
        # The Contact cannot be reached: only the connection leads back.
        invite = compose(port, body=OFFER, transport="TCP", Contact="<sip:peer@192.0.2.77;transport=tcp>")
        writer.write(invite.to_bytes())
        data = await _read_until(reader, b"m=audio 5000")
        tag = re.search(rb"SIP/2.0 200 OK.*?To: ([^\r]*)", data, re.DOTALL)
        assert tag is not None
        ack = compose(port, "ACK", transport="TCP", branch="z9hG4bKack", To=tag.group(1).decode())
        writer.write(ack.to_bytes())
        (call,) = one.calls()
        await call.wait_established()
        call.hang_up()
        assert b"BYE sip:peer@192.0.2.77;transport=tcp SIP/2.0" in await _read_until(reader, b"BYE sip:")
        writer.close()
