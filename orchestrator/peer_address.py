"""Who is at the other end of a request: the peer, or whom a trusted proxy says it asks for.

proxies = TrustedProxies(settings.http.trusted_proxies)
proxies.address(request)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from aiohttp import web


class TrustedProxies:
    """`networks` are addresses and prefixes; a proxy's word for who asks is taken, nobody else's."""

    def __init__(self, networks: Iterable[str]) -> None:
        self.networks = tuple(ipaddress.ip_network(network) for network in networks)

    def address(self, request: web.Request) -> str:
        """The caller's address, behind proxies of ours the one that they forward."""
        peer = peer_of(request)
        if peer not in self:
            return peer
        hops = [hop for line in request.headers.getall("X-Forwarded-For", ()) for hop in line.split(",")]
        for hop in reversed(hops):
            host = host_of(hop)
            if host is None:
                return peer  # not an address: what stands before it is no better
            if host not in self:
                return host
        return peer

    def __contains__(self, address: str) -> bool:
        try:
            host = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(host in network for network in self.networks)


def peer_of(request: web.Request) -> str:
    """The other end of the connection; an IPv4 address stays one on a dual listener."""
    return host_of(request.remote or "") or "unknown"


def host_of(text: str) -> str | None:
    """The address in "10.1.2.3", "10.1.2.3:4711", "2001:db8::1" or "[2001:db8::1]:4711"."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        host = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        return str(host.ipv4_mapped)
    return str(host)


def is_loopback(address: str) -> bool:
    return address != "unknown" and ipaddress.ip_address(address).is_loopback
