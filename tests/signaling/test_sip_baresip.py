"""The endpoint's digest against baresip, which gives up on a challenge it does not know."""

from pathlib import Path

from protocols.sip.digest import Outcome, Password, Secret
from signaling.sip_core import SipPolicy
from signaling.sip_incoming import IncomingCall
from tests.peers.baresip import Baresip, Room
from tests.peers.requirement import requires
from tests.signaling.sip_raw import endpoint, take_call

pytestmark = requires("baresip")


class Users:
    async def lookup(self, username: str, realm: str) -> Secret | None:
        return Password("secret") if username == "alice" else None


async def test_baresip_authenticates(tmp_path: Path) -> None:
    verdicts: list[Outcome] = []

    async def on_call(incoming: IncomingCall) -> None:
        verdicts.append(incoming.verdict.outcome)
        if incoming.verdict.outcome is Outcome.VERIFIED:
            await take_call(incoming)
        else:
            incoming.challenge()

    room = Room("alice", password="secret")
    async with (
        endpoint(on_call, SipPolicy(), authenticator=Users()) as one,
        Baresip(tmp_path, room) as terminal,
    ):
        await terminal.dial(f"sip:8001@127.0.0.1:{one.port('lo', 'UDP')}")
        await terminal.established()
        assert verdicts == [Outcome.ABSENT, Outcome.VERIFIED]
        await terminal.hang_up()
