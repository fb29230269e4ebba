"""Peers that send exactly the bytes a test wants; and an endpoint with a handler to suit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from protocols.sip.message import Headers, Message, Request, Response, parse_message
from protocols.sip.replies import respond
from protocols.sip.transaction import Timing
from signaling.sip_core import SipPolicy
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_events import Ended
from signaling.sip_incoming import IncomingCall
from signaling.sip_listener import ListenerSettings

OFFER = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"
ANSWER = OFFER.replace(b"4000", b"5000")
QUICK = Timing(t1=0.05, t2=0.2, t4=0.25, trying=0.05)
"""Sixty-four T1 are 3.2 s."""
HASTY = SipPolicy(timing=Timing(t1=0.015, t2=0.06, t4=0.1, trying=0.05))
"""For tests that wait for 64*T1: about a second."""

CallHandler = Callable[[IncomingCall], Awaitable[None]]


async def take_call(incoming: IncomingCall) -> None:
    """Ring, answer, and stay until the call is over."""
    incoming.ring()
    call = incoming.accept(ANSWER)
    await call.wait_ended()


@asynccontextmanager
async def endpoint(
    on_call: CallHandler = take_call, policy: SipPolicy | None = None, **more: Any
) -> AsyncIterator[SipEndpoint]:
    """A running endpoint on loopback, in network "lo", with quick timers."""
    one = SipEndpoint(
        [ListenerSettings("lo", "127.0.0.1", 0, 0)],
        realm="anshi",
        on_call=on_call,
        policy=policy or SipPolicy(timing=QUICK),
        **more,
    )
    await one.start()
    try:
        yield one
    finally:
        await one.aclose(timeout=0.2)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data.strip():  # keep-alives are no messages
            self.received.put_nowait(data)


class RawPeer:
    """A UDP peer of one endpoint; composes requests and answers by hand."""

    def __init__(self, target: SipEndpoint | None) -> None:
        """`look_at` names the endpoint later where it is not there yet."""
        if target is not None:
            self.look_at(target)
        self._protocol = _Datagrams()
        self.port = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self._protocol, local_addr=("127.0.0.1", 0)
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()

    def look_at(self, target: SipEndpoint) -> None:
        self._address = ("127.0.0.1", target.port("lo", "UDP"))

    def send(self, message: Message | bytes) -> None:
        data = message if isinstance(message, bytes) else message.to_bytes()
        self._transport.sendto(data, self._address)

    async def next(self, timeout: float = 3.0) -> Message:
        """The next message. TimeoutError when none comes."""
        async with asyncio.timeout(timeout):
            return parse_message(await self._protocol.received.get())

    async def response(self, status: int | None = None) -> Response:
        """The next response but 100; with ``status``, it must be that one."""
        while True:
            message = await self.next()
            if isinstance(message, Response) and message.status != 100:
                assert status in (None, message.status), message
                return message

    async def request(self, method: str) -> Request:
        """The next request of that method; others are passed over."""
        while True:
            message = await self.next()
            if isinstance(message, Request) and message.method == method:
                return message

    async def silence(self, seconds: float) -> None:
        """Assert that nothing comes."""
        try:
            message = await self.next(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"something came: {message}")

    def compose(
        self, method: str = "INVITE", body: bytes = b"", *, branch: str = "z9hG4bK1", **changes: str
    ) -> Request:
        """A request from this peer; ``changes`` replace header values, "" drops one."""
        return compose(self.port, method, body, branch=branch, **changes)

    def reply(self, request: Request, status: int, body: bytes = b"", *fields: tuple[str, str]) -> None:
        extra = [("Contact", f"<sip:peer@127.0.0.1:{self.port}>"), *fields]
        if body:
            extra.append(("Content-Type", "application/sdp"))
        self.send(respond(request, status, None, extra, body, to_tag="peer"))


def compose(
    port: int,
    method: str = "INVITE",
    body: bytes = b"",
    *,
    transport: str = "UDP",
    branch: str = "z9hG4bK1",
    uri: str = "sip:8001@127.0.0.1",
    **changes: str,
) -> Request:
    fields = {
        "Via": f"SIP/2.0/{transport} 127.0.0.1:{port};branch={branch};rport",
        "From": f"Peer <sip:peer@127.0.0.1:{port}>;tag=p1",
        "To": "<sip:8001@127.0.0.1>",
        "Call-ID": "raw-1",
        "CSeq": f"1 {method}",
        "Max-Forwards": "70",
        "Contact": f"<sip:peer@127.0.0.1:{port};transport={transport.lower()}>",
    }
    if transport == "UDP":
        fields["Contact"] = f"<sip:peer@127.0.0.1:{port}>"
    if body:
        fields["Content-Type"] = "application/sdp"
    for name, value in changes.items():
        fields[name.replace("_", "-")] = value
    kept = tuple((name, value) for name, value in fields.items() if value)
    return Request(method, uri, Headers().having(*kept), body)


def inside(
    peer: RawPeer, answer: Response, method: str, number: int, body: bytes = b"", **changes: str
) -> Request:
    """A request of the peer's in the dialog that ``answer`` made."""
    contact = answer.contact
    assert contact is not None
    composed = peer.compose(
        method, body, branch=f"z9hG4bK{method}{number}", To=answer.headers.get("To") or "",
        CSeq=f"{number} {method}", **changes,
    )  # fmt: skip
    return Request(method, str(contact.uri), composed.headers, body)


async def call_in(peer: RawPeer, **changes: str) -> Response:
    """The peer calls, is answered, and acknowledges."""
    peer.send(peer.compose(body=OFFER, **changes))
    await peer.response(180)
    answer = await peer.response(200)
    peer.send(inside(peer, answer, "ACK", 1))
    return answer


async def ended(events: AsyncIterator[object]) -> Ended:
    """Read events until the last."""
    async for event in events:
        if isinstance(event, Ended):
            return event
    raise AssertionError("the events stopped without an end")
