"""Each message of RFC 4475, sent to the endpoint or the registrar: what the answer is, and that it lives.

Where the RFC lets an element choose, what we have chosen stands here.
"""

from __future__ import annotations

import asyncio
import re

import pytest

from foundation.clock import FakeClock
from foundation.passwords import Passwords
from protocols.sip.message import Headers, Request, Response, parse_message
from protocols.sip.registration import Registration
from protocols.sip.uri import SipUri
from tests.protocols.sip import torture
from tests.protocols.sip.samples import parsed_request
from tests.signaling.house import House
from tests.signaling.sip_raw import RawPeer, compose, endpoint
from tests.signaling.switchboard import switchboard

SILENCE = 0
ANSWERS = {
    "wsinv": 200, "intmeth": 405, "esc01": 200, "esc02": 405, "lwsdisp": 200, "longreq": 200, "semiuri": 200,
    "transports": 200, "mpart01": 405, "unreason": SILENCE, "noreason": SILENCE, "inv2543": 200,
    "badinv01": 400, "clerr": 400, "ncl": 400, "scalarlg": SILENCE, "quotbal": 400, "ltgtruri": 400,
    "lwsruri": 400, "lwsstart": 200, "trws": 200, "escruri": 200, "baddate": 200, "badaspec": 200,
    "baddn": 200, "badvers": 505, "mismatch01": 400, "mismatch02": 400, "bigcode": SILENCE,
    "badbranch": 200, "insuf": 400, "unkscm": 416, "novelsc": 416, "bext01": 420, "invut": 415,
    "multi01": 400, "mcl01": 400, "bcast": SILENCE, "zeromf": 200, "sdp01": 406,
}  # fmt: skip
OF_THE_REGISTRAR = {
    "escnull": 401, "dblreq": 401, "scalar02": 400, "regbadct": 400, "unksm2": 400, "regaut01": 401,
    "cparam01": 401, "cparam02": 401, "regescrt": 401,
}  # fmt: skip


def test_none_of_the_49_is_missing() -> None:
    assert len(torture.ALL) == 49
    assert ANSWERS.keys() | OF_THE_REGISTRAR.keys() == torture.ALL.keys()


async def final(peer: RawPeer) -> Response:
    while (response := await peer.response()).status < 200:
        pass
    return response


async def still_answers(peer: RawPeer) -> None:
    """A request of ordinary make is answered at once, and nothing came before its answer."""
    peer.send(compose(peer.port, "OPTIONS", branch="z9hG4bKafter", Call_ID="after"))
    answer = await peer.response(200)
    assert answer.call_id == "after"


@pytest.mark.parametrize(("name", "status"), ANSWERS.items())
async def test_the_endpoint(name: str, status: int) -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        peer.send(torture.sent_by(torture.ALL[name], "127.0.0.1", peer.port))
        if status != SILENCE:
            answer = await final(peer)
            assert (answer.status, answer.reason != "") == (status, True), answer
            expected = {405: "Allow", 415: "Accept", 420: "Unsupported"}.get(status)
            assert expected is None or answer.headers.get(expected), answer
        if status != 200:
            assert one.calls() == []
            await still_answers(peer)


async def test_by_a_stream_the_answers_are_the_same() -> None:
    """One connection for each; of a length that is wrong the stream is told, and closed."""
    async with endpoint() as one:
        for name, status in ANSWERS.items():
            if status == SILENCE or name == "clerr":  # the rest of whose body is waited for
                continue
            reader, writer = await asyncio.open_connection("127.0.0.1", one.port("lo", "TCP"))
            port = writer.get_extra_info("sockname")[1]
            data = torture.sent_by(torture.ALL[name], "127.0.0.1", port)
            data = data.replace(b"torture.", f"{name}.".encode())  # calls of their own, not merged requests
            for at in range(0, len(data), 97):
                writer.write(data[at : at + 97])
            lines = b""
            async with asyncio.timeout(5):
                while (final := re.search(rb"SIP/2\.0 ([2-6]\d\d) ", lines)) is None:
                    piece = await reader.read(65_536)
                    assert piece, f"{name}: closed after {lines!r}"
                    lines += piece
            assert int(final[1]) == status, name
            writer.close()


@pytest.mark.parametrize(("name", "status"), OF_THE_REGISTRAR.items())
async def test_the_registrar(
    house: House, clock: FakeClock, passwords: Passwords, name: str, status: int
) -> None:
    async with switchboard(house, clock, passwords) as service, RawPeer(service.endpoint) as peer:
        peer.send(torture.sent_by(torture.ALL[name], "127.0.0.1", peer.port))
        answer = await final(peer)
        assert answer.status == status, answer
        assert (answer.headers.get("WWW-Authenticate") is not None) == (status == 401)
        await still_answers(peer)


async def test_unsupported_extensions_are_named_as_they_were_spelled() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        peer.send(torture.sent_by(torture.MEANING["bext01"], "127.0.0.1", peer.port))
        answer = await peer.response(420)
        assert answer.headers.get("Unsupported") == "nothingSupportsThis, nothingSupportsThisEither"


def test_every_character_that_may_be_is_kept() -> None:
    message = parse_message(torture.VALID["intmeth"])
    assert isinstance(message, Request)
    assert message.method == message.cseq.method == torture.ODD_METHOD
    assert isinstance(message.target, SipUri)
    # "crazy?,/;;*" and "weird!*pas$wo~d" are a user and its password: the first colon parts them.
    assert f"{message.target.user}:{message.target.password}" == torture.ODD_USER
    assert message.to.display_name == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert message.from_.display_name == "token1~` token2'+_ token3*%!.-"
    assert message.from_.tag == "_token~1'+`*%!-."
    assert message.from_.parameters.get("fromparam''~+*_!.-%") == "работающий"
    assert message.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
    assert message.headers.get("extensionheader-!.%*+_`'~") == "大停電"
    printed = parse_message(message.to_bytes())
    assert printed == message


def test_the_second_request_of_a_datagram_is_not_read() -> None:
    message = parsed_request(torture.VALID["dblreq"])
    assert (message.method, message.body) == ("REGISTER", b"")


@pytest.mark.parametrize(
    ("name", "of_the_uri", "of_the_contact", "headers"),
    [
        ("cparam01", False, True, ""),
        ("cparam02", True, False, ""),
        ("regescrt", False, False, "Route=%3Csip:h%3E"),
    ],
)
def test_whose_parameters_they_are(name: str, of_the_uri: bool, of_the_contact: bool, headers: str) -> None:
    (wanted,) = Registration.parse(parsed_request(torture.MEANING[name])).contacts
    uri = wanted.contact.uri
    assert isinstance(uri, SipUri)
    assert ("unknownparam" in uri.parameters) is of_the_uri
    assert ("unknownparam" in wanted.contact.parameters) is of_the_contact
    assert uri.headers == headers


def test_escaped_zeros_are_users_of_their_own() -> None:
    contacts = Registration.parse(parsed_request(torture.VALID["escnull"])).contacts
    users = [one.contact.uri.user_text for one in contacts if isinstance(one.contact.uri, SipUri)]
    assert users == ["\0", "\0\0"]


async def test_a_dialog_with_a_client_of_rfc_2543() -> None:
    """Its strict router is the Request-URI of our BYE, its Contact the last Route; there is no From tag."""
    async with endpoint() as one, RawPeer(one) as peer:
        peer.send(torture.sent_by(torture.VALID["inv2543"], "127.0.0.1", peer.port))
        answer = await final(peer)
        assert answer.headers.get("From") == "<sip:+13035551111@ift.client.example.net;user=phone>"
        (call,) = one.calls()
        assert call.id[2] == ""
        echoed = {name: answer.headers.get(name) or "" for name in ("From", "To")}
        head = {
            "Via": f"SIP/2.0/UDP 127.0.0.1:{peer.port}",
            "Call-ID": answer.call_id,
            "CSeq": "56 ACK",
            **echoed,
        }
        peer.send(Request("ACK", "sip:UserB@example.com", Headers(tuple(head.items()))))
        await call.wait_established()
        call.hang_up()
        bye = await peer.request("BYE")
        assert bye.uri == f"sip:UserB@127.0.0.1:{peer.port};maddr=127.0.0.1"
        assert bye.headers.get("Route") == f"<sip:caller@127.0.0.1:{peer.port}>"
        assert bye.headers.get("To") == echoed["From"]
