"""The four machines and their layer under a clock moved by hand (T1 = 1 s, so that numbers read easily)."""

from dataclasses import replace

import pytest

from protocols.sip.message import Request, Response
from protocols.sip.replies import respond
from protocols.sip.transaction import (
    Deliver,
    Failed,
    Finished,
    Kind,
    Output,
    State,
    Timing,
    Transaction,
    Transmit,
    Trouble,
)
from protocols.sip.transaction_layer import Fresh, Known, Overloaded, TransactionLayer
from tests.protocols.sip.samples import OFFER, request

TIMING = Timing(t1=1.0, t2=4.0, t4=5.0, trying=0.2)


def made(kind: Kind, method: str, reliable: bool = False) -> Transaction[str]:
    return Transaction(kind, ("k",), request(method), "peer", reliable, TIMING)


def sent(outputs: list[Output[str]]) -> list[str]:
    """What was transmitted, by method or status."""
    return [_name(output.message) for output in outputs if isinstance(output, Transmit)]


def _name(message: Request | Response) -> str:
    return message.method if isinstance(message, Request) else str(message.status)


def told(outputs: list[Output[str]]) -> list[str]:
    """What the user hears."""
    heard = []
    for output in outputs:
        match output:
            case Deliver(message=message):
                heard.append(_name(message))
            case Failed(trouble=trouble):
                heard.append(trouble.name)
            case Finished():
                heard.append("finished")
    return heard


def sending_times(transaction: Transaction[str], until: float) -> list[float]:
    """Run the timers; when was something sent?"""
    times = []
    while (deadline := transaction.next_deadline()) is not None and deadline <= until:
        times += [deadline] * len(sent(transaction.expire(deadline)))
    return times


def answer(status: int, method: str = "INVITE") -> Response:
    return respond(request(method), status, to_tag="b")


def test_invite_client_repeats_doubling_and_gives_up_after_64_t1() -> None:
    client = made(Kind.INVITE_CLIENT, "INVITE")
    assert sent(client.begin(0.0)) == ["INVITE"]
    assert sending_times(client, 63.9) == [1, 3, 7, 15, 31, 63]
    assert told(client.expire(64.0)) == ["TIMEOUT", "finished"]
    assert client.state is State.TERMINATED


def test_invite_client_over_a_stream_is_silent() -> None:
    client = made(Kind.INVITE_CLIENT, "INVITE", reliable=True)
    client.begin(0.0)
    assert sending_times(client, 63.9) == []
    assert told(client.expire(64.0)) == ["TIMEOUT", "finished"]


def test_invite_client_waits_for_ever_once_it_rings() -> None:
    client = made(Kind.INVITE_CLIENT, "INVITE")
    client.begin(0.0)
    assert told(client.receive(answer(180), 0.5)) == ["180"]
    assert client.next_deadline() is None
    assert told(client.receive(answer(183), 500.0)) == ["183"]


def test_invite_client_acknowledges_each_refusal_but_tells_it_once() -> None:
    client = made(Kind.INVITE_CLIENT, "INVITE")
    client.begin(0.0)
    first = client.receive(answer(486), 1.0)
    assert (sent(first), told(first)) == (["ACK"], ["486"])
    again = client.receive(answer(486), 2.0)
    assert (sent(again), told(again)) == (["ACK"], [])
    assert client.next_deadline() == 65.0
    assert told(client.expire(65.0)) == ["finished"]


def test_invite_client_accepted_passes_every_2xx_up_for_64_t1() -> None:
    client = made(Kind.INVITE_CLIENT, "INVITE")
    client.begin(0.0)
    assert told(client.receive(answer(200), 1.0)) == ["200"]
    fork = respond(request(), 200, to_tag="another")
    assert (sent(client.receive(fork, 2.0)), told(client.receive(fork, 3.0))) == ([], ["200"])
    assert told(client.receive(answer(486), 4.0)) == []
    assert told(client.expire(65.0)) == ["finished"]


def test_client_repeats_up_to_t2_and_at_t2_while_provisional() -> None:
    client = made(Kind.CLIENT, "BYE")
    assert sent(client.begin(0.0)) == ["BYE"]
    assert sending_times(client, 20.0) == [1, 3, 7, 11, 15, 19]
    assert told(client.receive(answer(100, "BYE"), 20.0)) == ["100"]
    assert sending_times(client, 31.9) == [23, 27, 31]
    assert told(client.receive(answer(200, "BYE"), 32.0)) == ["200"]
    assert told(client.receive(answer(200, "BYE"), 33.0)) == []
    assert told(client.expire(37.0)) == ["finished"]


def test_client_times_out_even_while_provisional() -> None:
    client = made(Kind.CLIENT, "BYE", reliable=True)
    client.begin(0.0)
    client.receive(answer(100, "BYE"), 5.0)
    assert told(client.expire(64.0)) == ["TIMEOUT", "finished"]


@pytest.mark.parametrize("kind", [Kind.INVITE_CLIENT, Kind.CLIENT])
def test_clients_end_when_the_transport_does(kind: Kind) -> None:
    client = made(kind, "INVITE" if kind is Kind.INVITE_CLIENT else "BYE")
    client.begin(0.0)
    assert told(client.transport_failed(0.1)) == [Trouble.TRANSPORT.name, "finished"]


def test_invite_server_says_trying_after_200_ms_only_if_silent() -> None:
    server = made(Kind.INVITE_SERVER, "INVITE")
    server.begin(0.0)
    assert sent(server.receive(request(), 0.1)) == []
    assert sent(server.expire(0.2)) == ["100"]
    assert sent(server.receive(request(), 0.5)) == ["100"]
    assert sent(server.respond(answer(180), 1.0)) == ["180"]
    assert sent(server.receive(request(), 1.5)) == ["180"]
    quick = made(Kind.INVITE_SERVER, "INVITE")
    quick.begin(0.0)
    quick.respond(answer(180), 0.1)
    assert quick.next_deadline() is None


def test_invite_server_repeats_a_refusal_until_the_ack() -> None:
    server = made(Kind.INVITE_SERVER, "INVITE")
    server.begin(0.0)
    assert sent(server.respond(answer(486), 0.1)) == ["486"]
    assert sending_times(server, 12.0) == pytest.approx([1.1, 3.1, 7.1, 11.1])
    assert sent(server.receive(request(), 12.0)) == ["486"]
    assert told(server.receive(request("ACK"), 12.5)) == []
    assert server.state is State.CONFIRMED
    assert sent(server.receive(request(), 13.0)) == []
    assert told(server.expire(17.5)) == ["finished"]


def test_invite_server_gives_up_without_an_ack() -> None:
    server = made(Kind.INVITE_SERVER, "INVITE", reliable=True)
    server.begin(0.0)
    server.respond(answer(603), 0.0)
    assert sending_times(server, 63.9) == []
    assert told(server.expire(64.0)) == ["TIMEOUT", "finished"]


def test_invite_server_accepted_absorbs_repetitions_and_passes_acks() -> None:
    server = made(Kind.INVITE_SERVER, "INVITE")
    server.request = replace(server.request, body=OFFER)
    server.begin(0.0)
    assert sent(server.respond(answer(200), 1.0)) == ["200"]
    assert server.request.body == b""
    assert sent(server.receive(request(), 2.0)) == []
    assert sent(server.respond(answer(200), 2.5)) == ["200"]
    assert told(server.receive(request("ACK"), 3.0)) == ["ACK"]
    assert sent(server.respond(answer(486), 4.0)) == []
    assert told(server.expire(65.0)) == ["finished"]


def test_server_answers_repetitions_with_its_last_response() -> None:
    server = made(Kind.SERVER, "OPTIONS")
    server.begin(0.0)
    assert sent(server.receive(request("OPTIONS"), 1.0)) == []
    assert sent(server.respond(answer(100, "OPTIONS"), 2.0)) == ["100"]
    assert sent(server.receive(request("OPTIONS"), 3.0)) == ["100"]
    assert sent(server.respond(answer(200, "OPTIONS"), 4.0)) == ["200"]
    assert sent(server.receive(request("OPTIONS"), 5.0)) == ["200"]
    assert sent(server.respond(answer(500, "OPTIONS"), 6.0)) == []
    assert told(server.expire(68.0)) == ["finished"]


def test_over_a_stream_nothing_lingers() -> None:
    for kind, method in ((Kind.CLIENT, "BYE"), (Kind.SERVER, "BYE")):
        transaction = made(kind, method, reliable=True)
        transaction.begin(0.0)
        if kind is Kind.CLIENT:
            transaction.receive(answer(200, "BYE"), 1.0)
        else:
            transaction.respond(answer(200, "BYE"), 1.0)
        assert told(transaction.expire(1.0)) == ["finished"]


# -- the layer


def fresh(layer: TransactionLayer[str], message: Request, now: float = 0.0) -> Transaction[str]:
    matched = layer.receive_request(message, "peer", False, now)
    assert isinstance(matched, Fresh)
    return matched.transaction


def test_repeated_requests_meet_their_transaction() -> None:
    layer: TransactionLayer[str] = TransactionLayer(TIMING)
    transaction = fresh(layer, request())
    layer.respond(transaction, answer(180), 0.1)
    again = layer.receive_request(request(), "peer", False, 0.5)
    assert isinstance(again, Known)
    assert sent(again.outputs) == ["180"]
    assert len(layer) == 1


def test_the_same_branch_from_another_host_is_another_transaction() -> None:
    layer: TransactionLayer[str] = TransactionLayer(TIMING)
    fresh(layer, request())
    fresh(layer, request(Via="SIP/2.0/UDP 192.0.2.6:5070;branch=z9hG4bKa1"))
    assert len(layer) == 2


def test_an_ack_belongs_to_its_refused_invite_or_to_a_dialog() -> None:
    layer: TransactionLayer[str] = TransactionLayer(TIMING)
    transaction = fresh(layer, request())
    layer.respond(transaction, answer(404), 0.1)
    assert isinstance(layer.receive_request(request("ACK"), "peer", False, 0.2), Known)
    assert transaction.state is State.CONFIRMED
    assert layer.receive_request(request("ACK", branch="z9hG4bKother"), "peer", False, 0.2) is None


def test_clients_of_rfc_2543_are_matched_without_a_branch() -> None:
    layer: TransactionLayer[str] = TransactionLayer(TIMING)
    via = "SIP/2.0/UDP 192.0.2.5:5070"
    transaction = fresh(layer, request(Via=via))
    assert isinstance(layer.receive_request(request(Via=via), "peer", False, 0.5), Known)
    layer.respond(transaction, answer(486), 1.0)
    ack = request("ACK", Via=via, To="<sip:8001@192.0.2.1>;tag=b")
    assert isinstance(layer.receive_request(ack, "peer", False, 1.5), Known)
    assert transaction.state is State.CONFIRMED


def test_merged_requests_are_noticed() -> None:
    layer: TransactionLayer[str] = TransactionLayer(TIMING)
    first = fresh(layer, request())
    second = fresh(layer, request(branch="z9hG4bKb2"))
    assert not layer.is_merged(first)
    assert layer.is_merged(second)
    assert not layer.is_merged(fresh(layer, request(branch="z9hG4bKc3", CSeq="2 INVITE")))


@pytest.mark.parametrize("status", [401, 407, 486])
def test_credentials_with_the_same_number_are_no_merged_request(status: int) -> None:
    layer: TransactionLayer[str] = TransactionLayer(TIMING)
    first = fresh(layer, request())
    layer.respond(first, answer(status), 0.1)
    assert layer.is_merged(fresh(layer, request(branch="z9hG4bKb2")))  # without any: the first by another way
    challenged = status != 486
    for number, name in enumerate(("Authorization", "Proxy-Authorization")):
        again = fresh(layer, request(branch=f"z9hG4bKc{number}", **{name: "Digest x"}))
        assert layer.is_merged(again) is not challenged
        twice = fresh(layer, request(branch=f"z9hG4bKd{number}", **{name: "Digest x"}))
        assert layer.is_merged(twice)
        layer.respond(again, answer(status), 0.2)


def test_cancel_finds_its_invite() -> None:
    layer: TransactionLayer[str] = TransactionLayer(TIMING)
    transaction = fresh(layer, request())
    cancel = request("CANCEL")
    fresh(layer, cancel)
    assert layer.cancelled_by(cancel) is transaction
    assert layer.cancelled_by(request("CANCEL", branch="z9hG4bKnone")) is None


def test_responses_meet_their_request_by_branch_and_method() -> None:
    layer: TransactionLayer[str] = TransactionLayer(TIMING)
    _, outputs = layer.start_client(request("BYE"), "peer", False, 0.0)
    assert sent(outputs) == ["BYE"]
    assert layer.receive_response(answer(200, "OPTIONS"), 0.1) is None
    matched = layer.receive_response(answer(200, "BYE"), 0.1)
    assert matched is not None
    assert told(matched.outputs) == ["200"]


def test_everything_ends_and_is_forgotten() -> None:
    layer: TransactionLayer[str] = TransactionLayer(TIMING)
    for number in range(50):
        transaction = fresh(layer, request(branch=f"z9hG4bK{number}", Call_ID=str(number)), number / 10)
        layer.respond(transaction, answer(404 if number % 2 else 200), number / 10)
    layer.start_client(request("BYE"), "peer", False, 0.0)
    assert len(layer) == 51
    while (deadline := layer.next_deadline()) is not None:
        assert deadline < 200
        layer.expire(deadline)
    assert len(layer) == 0
    assert not layer.is_merged(fresh(layer, request(branch="z9hG4bKlate", Call_ID="3"), 200.0))


def test_a_full_table_refuses_new_requests_only() -> None:
    layer: TransactionLayer[str] = TransactionLayer(TIMING, limit=1)
    fresh(layer, request())
    assert isinstance(layer.receive_request(request(), "peer", False, 0.1), Known)
    with pytest.raises(Overloaded):
        layer.receive_request(request(branch="z9hG4bKz"), "peer", False, 0.1)
