from dataclasses import fields

import pytest

from protocols.sip.dialog import Dialog, DialogState
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.message import Headers, Request
from protocols.sip.replies import respond
from protocols.sip.uri import SipUri
from tests.protocols.sip.samples import request

HERE = "<sip:8001@203.0.113.1:5060>"


def server_dialog(**changes: str) -> Dialog:
    return Dialog.of_server(request(**changes), "local1", HERE, first_cseq=1)


def test_the_callee_takes_the_route_as_recorded_and_the_caller_reversed() -> None:
    recorded = "<sip:p2.example;lr>, <sip:p1.example;lr>"
    callee = server_dialog(Record_Route=recorded)
    bye = callee.request("BYE")
    assert bye.headers.all("Route") == ["<sip:p2.example;lr>", "<sip:p1.example;lr>"]
    assert bye.uri == "sip:room@192.0.2.5:5070"
    assert callee.next_hop() == SipUri.parse("sip:p2.example;lr")
    invite = request(Record_Route=recorded)
    answer = respond(invite, 200, headers=[("Contact", "<sip:8001@192.0.2.1:5080>")], to_tag="far")
    caller = Dialog.of_client(invite, answer, "<sip:me@192.0.2.5>")
    assert caller.request("BYE").headers.all("Route") == ["<sip:p1.example;lr>", "<sip:p2.example;lr>"]
    assert caller.id == ("call-1@192.0.2.5", "from1", "far")
    assert callee.id == ("call-1@192.0.2.5", "local1", "from1")


def test_a_strict_router_gets_the_request_uri() -> None:
    dialog = server_dialog(Record_Route="<sip:old.example>, <sip:p1.example;lr>")
    bye = dialog.request("BYE")
    assert bye.uri == "sip:old.example"
    assert bye.headers.all("Route") == ["<sip:p1.example;lr>", "<sip:room@192.0.2.5:5070>"]


def test_requests_name_both_ends_and_count_up() -> None:
    dialog = server_dialog()
    first, second = dialog.request("OPTIONS"), dialog.request("INVITE", [("Subject", "x")], b"body")
    assert str(first.cseq) == "2 OPTIONS"
    assert str(second.cseq) == "3 INVITE"
    assert first.headers.get("From") == "<sip:8001@192.0.2.1>;tag=local1"
    assert first.headers.get("To") == '"Room" <sip:room@gx.example>;tag=from1'
    assert first.headers.get("Contact") is None
    assert second.headers.get("Contact") == HERE
    assert second.body == b"body"
    assert str(dialog.acknowledge(3).cseq) == "3 ACK"
    assert str(dialog.request("BYE").cseq) == "4 BYE"


def test_numbers_of_the_peer_must_rise() -> None:
    dialog = server_dialog()
    assert dialog.take(request("INFO", CSeq="5 INFO")) is None
    for late in ("5 INFO", "4 INFO"):
        refusal = dialog.take(request("INFO", CSeq=late))
        assert refusal is not None
        assert refusal.status == 500
    assert dialog.take(request("INFO", CSeq="900 INFO")) is None


def test_only_invite_and_update_move_the_target() -> None:
    dialog = server_dialog()
    moved = "<sip:room@192.0.2.99>"
    dialog.refresh_target(request("INFO", CSeq="2 INFO", Contact=moved))
    assert dialog.take(request("UPDATE", CSeq="3 UPDATE", Contact=moved)) is None
    assert dialog.state.remote_target == "sip:room@192.0.2.5:5070"
    dialog.refresh_target(request("UPDATE", CSeq="3 UPDATE", Contact=moved))
    assert dialog.request("BYE").uri == "sip:room@192.0.2.99"
    dialog.refresh_target(respond(request("INVITE"), 200, headers=[("Contact", "<sip:room@192.0.2.7>")]))
    assert dialog.request("BYE").uri == "sip:room@192.0.2.7"


def test_a_dialog_lives_on_from_its_state() -> None:
    dialog = server_dialog(Record_Route="<sip:p1.example;lr>")
    dialog.request("OPTIONS")
    state = dialog.state
    plain = [getattr(state, one.name) for one in fields(DialogState)]
    assert all(isinstance(value, str | int | tuple) for value in plain)
    revived = Dialog(DialogState(*plain))
    assert revived.request("BYE") == dialog.request("BYE")


def test_what_makes_no_dialog() -> None:
    with pytest.raises(SipSyntaxError, match="Contact is missing"):
        server_dialog(Contact="")
    bare = respond(request(), 200, to_tag="x")
    assert Dialog.of_client(request(), bare, HERE).state.remote_target == "sip:8001@192.0.2.1"
    assert isinstance(Request("BYE", "sip:a@b", Headers()), Request)
