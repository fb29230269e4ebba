"""Whether lips and words fit through a whole node: two that dial it, one claps, one watches.

    async with Lips() as lips:
        await lips.dial(uri_of_the_clapper, uri_of_the_watcher)
        await lips.measured()           seconds; above 0: the sound comes later than its picture

Measured by the sender reports that the watcher gets, as a terminal that synchronises lips does. Nobody else
may be heard meanwhile, and the clapper must be on the full screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from media.rtp_socket import PortRange
from orchestrator.demo.terminal.session import Endpoint
from protocols.sip.headers import NameAddress
from protocols.sip.uri import SipUri, parse_uri
from signaling.media_description import read_sdp, write_sdp
from signaling.sip_call import Call
from signaling.sip_core import SipPolicy
from signaling.sip_incoming import IncomingCall
from signaling.sip_listener import ListenerSettings
from signaling.sip_progress import Refused
from tests.mcu_bridge.rtp_peer import RtpPeer
from tests.mcu_bridge.test_lip_sync_of_rooms import ALLOWED as MOST_APART
from tests.mcu_bridge.test_lip_sync_of_rooms import Clapper, Watcher, measured
from tests.peers.ports import PortBlock

__all__ = ["MOST_APART", "Lips"]

HOST = "127.0.0.1"
NETWORK = "lips"
FAREWELL = 1.0


class Lips:
    """See the module's head; leaving the block hangs both up."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._calls: list[Call] = []

    async def __aenter__(self) -> Self:
        ports = self._stack.enter_context(PortBlock())
        first = ports.take(40, even=True)
        both = PortRange(first, first + 39)
        self._clapper = await self._stack.enter_async_context(Clapper(both, 0.0))
        self._watcher = await self._stack.enter_async_context(Watcher(both))
        listener = ListenerSettings(NETWORK, HOST, udp_port=0, tcp_port=None)
        self._endpoint = Endpoint(
            [listener], realm="lips", on_call=_refuse, policy=SipPolicy(product="Anshi test")
        )
        await self._endpoint.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for call in self._calls:
            await call.bye()
        await self._endpoint.aclose(FAREWELL)
        await self._endpoint.wait_closed()
        await self._stack.aclose()

    async def dial(self, clapper: str, watcher: str) -> None:
        """Both call; AssertionError when one is refused."""
        peers: Sequence[tuple[str, RtpPeer, str]] = (
            ("clapper", self._clapper, clapper),
            ("watcher", self._watcher, watcher),
        )
        for name, peer, uri in peers:
            target = parse_uri(uri)
            assert isinstance(target, SipUri)
            caller = NameAddress(SipUri(HOST, name, self._endpoint.port(NETWORK, "UDP")), name)
            offer = write_sdp(peer.offer(), session_id=1, version=1, name=name)
            outgoing = await self._endpoint.invite(target, caller, NETWORK, offer)
            outcome = await outgoing.result()
            assert not isinstance(outcome, Refused), f"{name} is refused: {outcome}"
            self._calls.append(outcome.call)
            peer.answered(read_sdp(outcome.sdp or b""))

    async def measured(self) -> float:
        """The median of some claps, tried again for twenty seconds while it is too much."""
        return await measured(self._watcher)


async def _refuse(incoming: IncomingCall) -> None:
    incoming.reject(486)
