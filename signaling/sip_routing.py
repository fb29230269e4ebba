"""Where a request goes: transport, address and port of a SIP URI (RFC 3263 without a DNS of services)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass

from protocols.sip.uri import SipUri, Uri
from signaling.sip_listener import Flow, ListenerTable, NoWay, SipListener, Transport

LARGEST_DATAGRAM = 1300
"""Bytes above which a request goes by a stream (RFC 3261 18.1.1)."""


class UnknownName(NoWay):
    """A host name has no address that could be learnt."""


def transports_for(uri: SipUri, size: int, listener: SipListener) -> tuple[Transport, ...]:
    """The transports to try. A named one is obeyed; a large request prefers TCP, and UDP after all."""
    if uri.scheme == "sips":
        return ("TLS",)
    match uri.transport:
        case "UDP" | "TCP" | "TLS" as named:
            return (named,)
        case None:
            pass
        case other:
            raise NoWay(f"no listener for transport {other}")
    if "UDP" not in listener.transports:
        return ("TCP",) if "TCP" in listener.transports else ("TLS",)
    if size > LARGEST_DATAGRAM and "TCP" in listener.transports:
        return ("TCP", "UDP")
    return ("UDP",)


async def way_to(uri: Uri, size: int, network: str, listeners: ListenerTable) -> Flow:
    """A flow to where ``uri`` points, for a request of ``size`` bytes. Raises NoWay with what failed."""
    if not isinstance(uri, SipUri):
        raise NoWay(f"nothing is known of how to reach {uri.scheme}: URIs")
    listener = listeners.of(network)
    host = uri.parameters.get("maddr") or uri.host
    problem = NoWay(f"no way to {uri.host}")
    for transport in transports_for(uri, size, listener):
        port = uri.port if uri.port is not None else 5061 if transport == "TLS" else 5060
        address = await _resolve(host, listener.family)
        try:
            return await listener.connect(transport, address, port, uri.host)
        except NoWay as error:
            problem = error
    raise problem


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a peer was heard. ``latched``: it is reached there only, whatever its Contact says (a NAT)."""

    transport: Transport
    host: str
    port: int
    latched: bool


async def way_back(reach: Reach, uri: Uri, size: int, network: str, listeners: ListenerTable) -> Flow:
    """The flow to a peer that came to us: its connection if that is up, else where ``uri`` points.

    Raises NoWay.
    """
    listener = listeners.of(network)
    if reach.transport == "UDP":
        if reach.latched:
            return await listener.connect("UDP", reach.host, reach.port)
        return await way_to(uri, size, network, listeners)
    known = listener.connection_to(reach.transport, reach.host, reach.port)
    return known if known is not None else await way_to(uri, size, network, listeners)


async def addresses_of(host: str, family: socket.AddressFamily) -> frozenset[str]:
    """All addresses of a name. Raises NoWay."""
    return frozenset(await _addresses(host, family))


async def _resolve(host: str, family: socket.AddressFamily) -> str:
    return (await _addresses(host, family))[0]


async def _addresses(host: str, family: socket.AddressFamily) -> list[str]:
    if is_address(host):
        return [host]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(5):
            found = await loop.getaddrinfo(host, None, family=family, type=socket.SOCK_DGRAM)
    except (OSError, TimeoutError) as error:
        raise UnknownName(f"the name {host} is not known: {error or 'timed out'}") from error
    return [str(one[4][0]) for one in found]


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_hidden(contact_host: str, seen_host: str) -> bool:
    """Whether a Contact names a private address though the peer is seen at a public one: behind a NAT."""
    if not is_address(contact_host) or contact_host == seen_host:
        return False
    contact, seen = ipaddress.ip_address(contact_host), ipaddress.ip_address(seen_host.partition("%")[0])
    return contact.is_private and not seen.is_private
