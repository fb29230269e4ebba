"""How many places one address may hold at a door, so that nobody takes all of them.

    bounds = AddressBounds(500, exempt=trusted_proxies)
    if bounds.enter("192.0.2.7"): ...; bounds.leave("192.0.2.7")

An IPv6 host has a /64 to itself, so that counts as one. This machine itself is not bounded, nor are
`exempt` networks: behind a proxy the forwarded address is what counts. An office behind one NAT is one
address, so bounds are to be generous.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network

THIS_MACHINE: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
_IPV6_HOST = 64


class AddressBounds:
    """`refused` newcomers so far. What is no address (a Unix socket's peer) is bounded as one."""

    def __init__(self, most: int, exempt: Sequence[Network] = (), local: Sequence[Network] = THIS_MACHINE):
        self.refused = 0
        self._most = most
        self._exempt = (*exempt, *local)
        self._held: dict[str, int] = {}

    @property
    def addresses(self) -> int:
        """Addresses that hold a place."""
        return len(self._held)

    def enter(self, address: str) -> bool:
        """Takes a place, which `leave` gives back; False when this address holds all it may."""
        key = self._key(address)
        if key is None:
            return True
        held = self._held.get(key, 0)
        if held >= self._most:
            self.refused += 1
            return False
        self._held[key] = held + 1
        return True

    def leave(self, address: str) -> None:
        """Gives back what `enter` took."""
        key = self._key(address)
        if key is None:
            return
        held = self._held[key] - 1
        if held:
            self._held[key] = held
        else:
            del self._held[key]

    def _key(self, address: str) -> str | None:
        """None for who is not bounded."""
        try:
            host = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return address
        if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
            host = host.ipv4_mapped
        if any(host in network for network in self._exempt):
            return None
        if isinstance(host, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((host, _IPV6_HOST), strict=False))
        return str(host)
