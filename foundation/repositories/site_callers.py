"""Which site calls from an address: asked for every call, so it is one plain statement.

site = await database.read(lambda connection: site_calling(connection, "extranet", "10.1.2.3"))
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from sqlalchemy import Connection, Table, bindparam, select

from foundation.schema import SiteAddressRow, SiteRow

__all__ = ["CallingSite", "prefixes_of", "site_calling"]


@dataclass(frozen=True, slots=True)
class CallingSite:
    id: str
    name: str


_SITES = cast(Table, SiteRow.__table__)
_ADDRESSES = cast(Table, SiteAddressRow.__table__)
_FOUND = (
    select(_ADDRESSES.c.prefix, _SITES.c.id, _SITES.c.name)
    .join_from(_ADDRESSES, _SITES, _ADDRESSES.c.site_id == _SITES.c.id)
    .where(
        _ADDRESSES.c.network == bindparam("network"),
        _ADDRESSES.c.prefix.in_(bindparam("prefixes", expanding=True)),
    )
)


@lru_cache(1024)
def prefixes_of(address: str) -> tuple[str, ...]:
    """Every prefix that an address lies in, the longest first; an IPv4 address may come mapped into IPv6."""
    host = ipaddress.ip_address(address)
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped:
        host = host.ipv4_mapped
    return tuple(
        ipaddress.ip_network((host, length), strict=False).with_prefixlen
        for length in range(host.max_prefixlen, -1, -1)
    )


def site_calling(connection: Connection, network: str, address: str) -> CallingSite | None:
    """The site of the longest prefix on that network; None when unknown."""
    prefixes = prefixes_of(address)
    rows = connection.execute(_FOUND, {"network": network, "prefixes": prefixes})
    sites = {prefix: CallingSite(site_id, name) for prefix, site_id, name in rows}
    return next((sites[prefix] for prefix in prefixes if prefix in sites), None)
