"""All of SIP over meetings whose desks only remember: a real endpoint, real rows, raw peers that sign in."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from foundation.clock import FakeClock
from foundation.passwords import Passwords
from foundation.repositories.sites import SiteAddress, SiteRepository, sip_account
from foundation.tasks import TaskScope
from foundation.throttle import AttemptThrottle
from protocols.sip.digest import DigestClient, Login
from protocols.sip.message import Request, Response
from signaling.callers import CallerDirectory
from signaling.sip_core import SipPolicy
from signaling.sip_listener import ListenerSettings
from signaling.sip_service import SipService
from tests.signaling.house import House
from tests.signaling.sip_raw import QUICK, RawPeer

REALM = "county"
PASSWORD = "secret"
USER = "nanning-room"


@asynccontextmanager
async def switchboard(
    house: House,
    clock: FakeClock,
    passwords: Passwords,
    *,
    free: int = 3,
    listener: ListenerSettings | None = None,
    **more: Any,
) -> AsyncIterator[SipService]:
    """SIP on loopback, in network "lo"; two accounts, and no address is a site's."""
    async with house.database.transaction() as tx:
        for name, site in ((USER, "nanning"), ("guangxi-room", "guangxi")):
            await SiteRepository(tx).save_sip_account(sip_account(name, REALM, PASSWORD, site))
    service = SipService(
        [listener or ListenerSettings("lo", "127.0.0.1", 0, 0)],
        realm=REALM,
        meetings=house.meetings,
        workers=house.workers,
        callers=CallerDirectory(house.database, clock, passwords, REALM, AttemptThrottle(clock, free=free)),
        database=house.database,
        clock=clock,
        bus=house.bus,
        policy=SipPolicy(timing=QUICK),
        **more,
    )
    async with TaskScope("sip") as scope:
        await service.start(scope)
        try:
            yield service
        finally:
            await service.aclose(timeout=0.2)


async def loopback_is(house: House, site_id: str) -> None:
    """From now on whoever calls from 127.0.0.1 is that site."""
    async with house.database.transaction() as tx:
        await SiteRepository(tx).save_address(SiteAddress("lo", "127.0.0.1/32", site_id))


class SignedPeer(RawPeer):
    """A raw peer that answers challenges as an account, and counts its requests."""

    def __init__(self, service: SipService, username: str = USER, password: str = PASSWORD) -> None:
        super().__init__(service.endpoint)
        self.username = username
        self._login = DigestClient(Login(username, password))
        self._numbers = itertools.count(1)

    async def ask(self, method: str, body: bytes = b"", **changes: str) -> Response:
        """A request and its final response, its challenge answered; fields as in `compose`."""
        request = self._request(method, body, changes)
        self.send(request)
        response = await self.response()
        if response.status == 401:
            self._close(request, response)
            answer = self._login.answer(
                response.headers.all("WWW-Authenticate"), method, request.uri, body, secrets.token_hex(4)
            )
            assert answer is not None
            request = self._request(method, body, {**changes, "Authorization": str(answer)})
            self.send(request)
            response = await self.response()
        return response

    def begin_again(self) -> None:
        """Count from 1 anew."""
        self._numbers = itertools.count(1)

    def _request(self, method: str, body: bytes, changes: dict[str, str]) -> Request:
        number = next(self._numbers)
        fields = {
            "From": f"<sip:{self.username}@127.0.0.1>;tag=p1",
            "To": f"<sip:{self.username}@127.0.0.1>",
            "CSeq": f"{number} {method}",
            "Call-ID": f"signed-{self.port}",
            **{name.replace("_", "-"): value for name, value in changes.items()},
        }
        return self.compose(method, body, branch=f"z9hG4bK{secrets.token_hex(5)}", **fields)

    def _close(self, request: Request, response: Response) -> None:
        if request.method == "INVITE":
            ack = request.headers.replacing("CSeq", str(request.cseq).replace("INVITE", "ACK"))
            ack = ack.replacing("To", response.headers.get("To") or "").without("Content-Type")
            self.send(Request("ACK", request.uri, ack))
