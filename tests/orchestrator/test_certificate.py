"""The HTTPS listener's certificate: made once, renewed in time, or the given one checked."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from concurrent.futures import ProcessPoolExecutor
from ipaddress import ip_address
from multiprocessing import get_context
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from config.settings import ConfigurationError, Http, Network, Node, Settings
from orchestrator import certificate as certificate_module
from orchestrator.certificate import ensure_certificate, server_context

NETWORKS = (Network(name="internet", bind="127.0.0.2", advertise="203.0.113.7"),)


def node(data: Path, **http: object) -> Settings:
    values = msgspec.convert({"bind": "127.0.0.1", **http}, Http, dec_hook=lambda kind, value: kind(value))
    return Settings(node=Node(id="cenxi", name="岑溪"), data=data, http=values, networks=NETWORKS)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(path: Path) -> x509.SubjectAlternativeName:
    return read(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_one_is_made_for_every_address_and_kept(tmp_path: Path) -> None:
    settings = node(tmp_path, external_url="https://meeting.example.gov.cn:8443/")
    certificate, key = ensure_certificate(settings)
    assert key.stat().st_mode & 0o777 == 0o600
    hosts = names(certificate).get_values_for_type(x509.DNSName)
    addresses = names(certificate).get_values_for_type(x509.IPAddress)
    assert {"localhost", "meeting.example.gov.cn"} <= set(hosts)
    assert {ip_address(text) for text in ("127.0.0.1", "127.0.0.2", "203.0.113.7", "::1")} <= set(addresses)
    first = certificate.read_bytes(), key.read_bytes()
    assert ensure_certificate(settings) == (certificate, key)
    assert (certificate.read_bytes(), key.read_bytes()) == first
    assert sorted(path.name for path in certificate.parent.iterdir()) == ["certificate.pem", "key.pem"]


def test_processes_that_start_at_once_get_one_pair(tmp_path: Path) -> None:
    """Main and the edge do: a key of one beside the certificate of the other would end the node."""
    settings = node(tmp_path)
    with ProcessPoolExecutor(4, get_context("fork")) as processes:
        made = list(processes.map(serial_after_start, [settings] * 12))
    assert len(set(made)) == 1


def serial_after_start(settings: Settings) -> int:
    server_context(settings)  # raises for a key that does not belong to the certificate
    return read(ensure_certificate(settings)[0]).serial_number


def test_a_wildcard_listener_does_not_put_the_wildcard_in(tmp_path: Path) -> None:
    certificate, _ = ensure_certificate(node(tmp_path, bind="0.0.0.0"))
    assert ip_address("0.0.0.0") not in names(certificate).get_values_for_type(x509.IPAddress)


def test_a_new_address_makes_a_new_one(tmp_path: Path) -> None:
    certificate, _ = ensure_certificate(node(tmp_path))
    serial = read(certificate).serial_number
    ensure_certificate(node(tmp_path, external_url="https://198.51.100.1"))
    assert read(certificate).serial_number != serial
    assert ip_address("198.51.100.1") in names(certificate).get_values_for_type(x509.IPAddress)


def test_it_is_made_anew_before_it_expires_and_when_a_file_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = node(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(certificate_module, "VALID", datetime.timedelta(days=29))
        certificate, key = ensure_certificate(settings)
    short = read(certificate).serial_number
    ensure_certificate(settings)
    renewed = read(certificate).serial_number
    assert renewed != short
    key.write_text("rubbish")
    ensure_certificate(settings)
    assert read(certificate).serial_number != renewed


async def test_a_client_that_trusts_it_can_connect(tmp_path: Path) -> None:
    settings = node(tmp_path)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server_context(settings))
    port = server.sockets[0].getsockname()[1]
    trusting = ssl.create_default_context(cafile=str(ensure_certificate(settings)[0]))
    for name in ("127.0.0.1", "localhost"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=name)
        assert await reader.read() == b"hello"
        writer.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())
    server.close()


def test_a_given_pair_is_used_as_it_is(tmp_path: Path) -> None:
    certificate, key = ensure_certificate(node(tmp_path / "one"))
    given = node(tmp_path / "two", certificate=str(certificate), key=str(key))
    assert ensure_certificate(given) == (certificate, key)
    assert not (tmp_path / "two").exists()
    server_context(given)


def test_a_given_pair_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = ensure_certificate(node(tmp_path / "one"))
    _, other_key = ensure_certificate(node(tmp_path / "two"))
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )

    def line(certificate: Path, key: Path) -> str:
        with pytest.raises(ConfigurationError) as caught:
            ensure_certificate(node(tmp_path, certificate=str(certificate), key=str(key)))
        return str(caught.value).replace(f"{tmp_path}/", "")

    none = tmp_path / "none.pem"
    assert line(none, key) == "http.certificate: none.pem: No such file or directory"
    assert line(certificate, none) == "http.key: none.pem: No such file or directory"
    assert line(key, key) == "http.certificate: one/tls/key.pem: holds no PEM certificate"
    assert line(certificate, certificate) == "http.key: one/tls/certificate.pem: holds no PEM private key"
    assert line(certificate, encrypted) == (
        "http.key: encrypted.pem: is encrypted; it must be given without a password"
    )
    assert line(certificate, other_key) == (
        "http.key: two/tls/key.pem: does not belong to one/tls/certificate.pem"
    )
    with monkeypatch.context() as patch:
        patch.setattr(certificate_module, "VALID", datetime.timedelta(seconds=-1))
        expired, expired_key = ensure_certificate(node(tmp_path / "three"))
    assert line(expired, expired_key).startswith("http.certificate: three/tls/certificate.pem: expired on 20")
