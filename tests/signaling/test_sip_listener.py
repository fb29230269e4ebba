"""Listeners: TLS, IPv6, several networks, advertised addresses, connections shared and found again."""

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from foundation.tasks import TaskScope
from protocols.sip.message import Request, parse_message
from signaling.sip_core import SipPolicy
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_incoming import IncomingCall
from signaling.sip_listener import Arrival, Inbox, ListenerLimits, ListenerSettings, NoWay, SipListener
from signaling.sip_progress import Answered, Refused
from tests.peers.waiting import until_true
from tests.signaling.sip_raw import OFFER, QUICK, take_call

US = "<sip:8001@anshi.example>"


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, secret


async def test_calls_over_tls_with_a_client_certificate(tmp_path: Path) -> None:
    ours, theirs = certificate(tmp_path, "anshi"), certificate(tmp_path, "room-7")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*ours)
    server.load_verify_locations(theirs[0])
    server.verify_mode = ssl.CERT_OPTIONAL
    client = ssl.create_default_context(cafile=str(ours[0]))
    client.load_cert_chain(*theirs)
    certified: list[str | None] = []

    async def on_call(incoming: IncomingCall) -> None:
        certified.append(incoming.certified)
        await take_call(incoming)

    callee = SipEndpoint(
        [ListenerSettings("lo", "127.0.0.1", None, None, 0, tls=server)], realm="x", on_call=on_call
    )
    caller = SipEndpoint(
        [ListenerSettings("lo", "127.0.0.1", None, None, 0, tls=server, tls_client=client)],
        realm="x",
        on_call=take_call,
    )
    await callee.start()
    await caller.start()
    try:
        port = callee.port("lo", "TLS")
        for uri in (f"sip:8001@127.0.0.1:{port};transport=tls", f"sips:8001@127.0.0.1:{port}"):
            result = await (await caller.invite(uri, US, "lo", OFFER)).result()
            assert isinstance(result, Answered)
            assert result.call.flow.transport == "TLS"
            own = caller.port("lo", "TLS")
            secure = uri.startswith("sips:")
            here = f"sips:8001@127.0.0.1:{own}" if secure else f"sip:8001@127.0.0.1:{own};transport=tls"
            there = uri if secure else f"sip:8001@127.0.0.1:{port};transport=tls"
            state = result.call.snapshot().dialog
            # A dialog that began with a SIPS URI has SIPS Contacts on both sides (RFC 3261 12.1.1).
            assert (state.local_contact, state.remote_target) == (f"<{here}>", there)
            await result.call.bye()
        assert certified == ["room-7", "room-7"]
        assert caller.listeners["lo"].connection_count == 1
        stranger = SipEndpoint(
            [
                ListenerSettings(
                    "lo", "127.0.0.1", None, None, 0, tls=server, tls_client=ssl.create_default_context()
                )
            ],
            realm="x",
            on_call=take_call,
        )
        await stranger.start()
        refused = await (await stranger.invite(uri, US, "lo", OFFER)).result()
        await stranger.aclose(0.2)
        assert isinstance(refused, Refused)
        assert "CERTIFICATE_VERIFY_FAILED" in refused.reason
    finally:
        await caller.aclose(0.2)
        await callee.aclose(0.2)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_calls_over_ipv6(transport: str) -> None:
    settings = [ListenerSettings("v6", "::1", 0, 0)]
    callee = SipEndpoint(settings, realm="x", on_call=take_call)
    caller = SipEndpoint(settings, realm="x", on_call=take_call)
    await callee.start()
    await caller.start()
    try:
        uri = f"sip:8001@[::1]:{callee.port('v6', 'UDP')};transport={transport}"
        result = await (await caller.invite(uri, US, "v6", OFFER)).result()
        assert isinstance(result, Answered)
        assert result.call.flow.host == "::1"
        assert await result.call.probe()
        await result.call.bye()
        assert callee.calls() == []
    finally:
        await caller.aclose(0.2)
        await callee.aclose(0.2)


async def test_each_network_speaks_with_its_own_advertised_address() -> None:
    answers: list[str] = []

    async def on_call(incoming: IncomingCall) -> None:
        answers.append(incoming.network)
        await take_call(incoming)

    outside = ListenerSettings(
        "internet", "127.0.0.2", 0, 0, advertised_host="203.0.113.7", advertised_ports=(("UDP", 5060),)
    )
    inside = ListenerSettings("extranet", "127.0.0.1", 0, 0)
    one = SipEndpoint([inside, outside], realm="x", on_call=on_call, policy=SipPolicy(timing=QUICK))
    await one.start()
    inbox: Inbox = asyncio.Queue()
    async with TaskScope("test") as scope:
        peer = SipListener(ListenerSettings("peer", "127.0.0.3", 0, 0), inbox)
        await peer.start(scope)
        target = f"sip:room@127.0.0.3:{peer.bound_port('UDP')}"
        for network, contact in (
            ("extranet", f"<sip:8001@127.0.0.1:{one.port('extranet', 'UDP')}>"),
            ("internet", "<sip:8001@203.0.113.7:5060>"),
        ):
            await one.invite(target, US, network, OFFER)
            arrival = await inbox.get()
            assert isinstance(arrival, Arrival)
            invite = parse_message(arrival.data)
            assert isinstance(invite, Request)
            assert invite.headers.get("Contact") == contact
            assert arrival.flow.host == ("127.0.0.1" if network == "extranet" else "127.0.0.2")
            assert invite.via.host in contact
        refused = await (await one.invite(target, US, "satellite", OFFER)).result()
        assert isinstance(refused, Refused)
        assert "network satellite" in refused.reason
        await one.aclose(0.1)
        await peer.aclose()
    assert answers == []


async def test_connections_are_opened_once_and_again_when_lost() -> None:
    inbox: Inbox = asyncio.Queue()
    async with TaskScope("test") as scope:
        here = SipListener(ListenerSettings("lo", "127.0.0.1", 0, 0), inbox, ListenerLimits(connections=1))
        there = SipListener(ListenerSettings("lo", "127.0.0.1", 0, 0), inbox)
        await here.start(scope)
        await there.start(scope)
        port = there.bound_port("TCP")
        flows = await asyncio.gather(*(here.connect("TCP", "127.0.0.1", port) for _ in range(5)))
        assert len(set(flows)) == 1
        with pytest.raises(NoWay, match="too many connections"):
            await here.connect("TCP", "127.0.0.1", here.bound_port("TCP"))
        assert here.send(flows[0], b"OPTIONS sip:a SIP/2.0\r\nl: 0\r\n\r\n")
        arrival = await inbox.get()
        assert isinstance(arrival, Arrival)
        assert there.send(arrival.flow, b"SIP/2.0 200 OK\r\nl: 0\r\n\r\n")
        assert isinstance(await inbox.get(), Arrival)
        await there.aclose()
        await until_true(lambda: not here.is_open(flows[0]), "the lost connection to be noticed", 2)
        assert not here.send(flows[0], b"x")
        with pytest.raises(NoWay, match=f"127.0.0.1 port {port}"):
            await here.connect("TCP", "127.0.0.1", port)
        await here.aclose()


async def test_a_peer_that_does_not_read_is_cut_off() -> None:
    inbox: Inbox = asyncio.Queue()
    async with TaskScope("test") as scope:
        limits = ListenerLimits(unsent=100_000)
        here = SipListener(ListenerSettings("lo", "127.0.0.1", None, 0), inbox, limits)
        await here.start(scope)
        mute = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        flow = await here.connect("TCP", "127.0.0.1", mute.sockets[0].getsockname()[1])
        sent = 0
        while here.send(flow, b"x" * 60_000) and sent < 500:
            sent += 1
        assert sent < 500
        assert (here.counters.connections_slow, here.connection_count) == (1, 0)
        mute.close()
        await here.aclose()


def test_a_wildcard_must_advertise_something() -> None:
    with pytest.raises(ValueError, match="must advertise"):
        SipListener(ListenerSettings("lo", "0.0.0.0"), asyncio.Queue())
