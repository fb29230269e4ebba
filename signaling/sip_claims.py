"""What a SIP request brings along as proof of who sent it, in the words of `CallerDirectory`."""

from __future__ import annotations

from protocols.sip.headers import NameAddress
from protocols.sip.uri import SipUri
from signaling.callers import Claim
from signaling.sip_incoming import IncomingCall, IncomingRequest


def claim_of_call(call: IncomingCall, pin: str | None) -> Claim:
    uri = call.caller.uri
    return Claim(
        network=call.network,
        address=str(uri),
        source=call.source[0],
        verdict=call.verdict,
        certified=call.certified,
        claimed=_user(call.caller),
        display_name=call.caller.display_name or "",
        pin=pin,
    )


def claim_of_request(incoming: IncomingRequest, pin: str | None = None) -> Claim:
    sender = incoming.request.from_
    return Claim(
        network=incoming.network,
        address=str(sender.uri),
        source=incoming.flow.host,
        verdict=incoming.verdict,
        certified=incoming.certified,
        claimed=_user(sender),
        display_name=sender.display_name or "",
        pin=pin,
    )


def _user(address: NameAddress) -> str:
    return address.uri.user_text if isinstance(address.uri, SipUri) else ""
