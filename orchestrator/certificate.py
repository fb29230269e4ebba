"""The certificate of the HTTPS listener: the one that was given, or one we sign ourselves.

    certificate, key = ensure_certificate(settings)          paths of PEM files
    context = server_context(settings)                       an ssl.SSLContext for the listener
    trust = client_trust(settings, network)                  SSLContexts for SIP connections of ours

Our own lies in `data/tls`, names every address that browsers may use, and is made anew when it is about
to expire or an address is missing in it. The key is readable by this user only. Raises
ConfigurationError (key path and what is wrong) for a given pair that cannot be used. Blocks for some
milliseconds: call it before the event loop serves anybody.
"""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from config.settings import ConfigurationError, Network, Settings

log = structlog.get_logger(__name__)

VALID = datetime.timedelta(days=825)
RENEWED_BEFORE = datetime.timedelta(days=30)
LONGEST_COMMON_NAME = 64


def ensure_certificate(settings: Settings) -> tuple[Path, Path]:
    """The PEM files of certificate and key."""
    given = settings.http.certificate, settings.http.key
    if given[0] is not None and given[1] is not None:
        check_given(given[0], given[1])
        return given[0], given[1]
    folder = settings.data / "tls"
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = certificate_names(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(folder):
        if not _still_good(certificate, key, names):
            _make(certificate, key, names, settings.node.id)
    return certificate, key


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Main and the edge start at the same moment: one makes the pair, the other waits and takes it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def server_context(settings: Settings) -> ssl.SSLContext:
    """TLS 1.2 or later, as a server."""
    certificate, key = ensure_certificate(settings)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


@dataclass(frozen=True, slots=True)
class ClientTrust:
    """By whom those are verified whom we call in one network: servers of trunks by name, and all others."""

    others: ssl.SSLContext
    servers: tuple[tuple[str, ssl.SSLContext], ...]


def client_trust(settings: Settings, network: Network) -> ClientTrust:
    """TLS 1.2 or later towards those whom we call: theirs are verified unless the settings say no, ours is
    shown to who asks. A trunk's authority vouches for its own server only."""
    servers = []
    for trunk in settings.trunks:
        if (trunk.network or settings.networks[0].name) == network.name and trunk.transport == "tls":
            if not trunk.tls_verify:
                log.warning("tls_not_verified", trunk=trunk.name, meaning="anybody may pose as its server")
            context = _client_context(settings, trunk.certificate_authority, verify=trunk.tls_verify)
            servers.append((trunk.host_name.lower(), context))
    if not network.sip.tls_verify:
        log.warning("tls_not_verified", network=network.name, meaning="anybody may pose as whom we call")
    verify = network.sip.tls_verify
    return ClientTrust(
        _client_context(settings, network.sip.certificate_authority, verify=verify), tuple(servers)
    )


def _client_context(settings: Settings, authority: Path | None, *, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authority is not None:
        try:
            context.load_verify_locations(authority)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"certificate_authority: {authority}: {error}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(*ensure_certificate(settings))
    return context


def certificate_names(settings: Settings) -> list[x509.GeneralName]:
    """What the subject alternative name says (RFC 5280 4.2.1.6): host names, then addresses."""
    hosts = {"localhost", socket.gethostname()}
    addresses = {"127.0.0.1", "::1", settings.http.bind, settings.edge.bind}
    for network in settings.networks:
        addresses |= {network.bind, network.advertised}
    for url in (settings.http.external_url, settings.edge.external_url):
        if url is not None:
            outside = urlsplit(url).hostname or ""
            (addresses if _is_address(outside) else hosts).add(outside)
    if ipaddress.ip_address(settings.http.bind).is_unspecified:
        addresses |= _own_addresses()
    usable = {ipaddress.ip_address(address) for address in addresses}
    return [
        *(x509.DNSName(host) for host in sorted(hosts) if _is_host_name(host)),
        *(
            x509.IPAddress(address)
            for address in sorted(usable, key=lambda address: (address.version, int(address)))
            if not address.is_unspecified
        ),
    ]


def _own_addresses() -> set[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {str(entry[4][0]).partition("%")[0] for entry in found}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_host_name(text: str) -> bool:
    """Whether it fits a DNSName: ASCII, as IDNA wants it."""
    return bool(text) and text.isascii() and len(text) < 254


def _still_good(certificate: Path, key: Path, names: list[x509.GeneralName]) -> bool:
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        present = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    remaining = loaded.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return (
        remaining > RENEWED_BEFORE
        and set(names) <= set(present)
        and private.public_key() == loaded.public_key()
    )


def _make(certificate: Path, key: Path, names: list[x509.GeneralName], node: str) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Anshi"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Anshi {node}"[:LONGEST_COMMON_NAME]),
        ]
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key, pem, 0o600)
    _write(certificate, signed.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Never half a file, and never readable by others for a moment."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
    beside.replace(path)


def check_given(certificate: Path, key: Path) -> None:
    """Raises ConfigurationError for a pair that browsers would not get along with."""
    for name, path in (("certificate", certificate), ("key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"http.{name}: {path}: {error.strerror}") from None
    try:
        loaded = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except (ValueError, IndexError):
        raise ConfigurationError(f"http.certificate: {certificate}: holds no PEM certificate") from None
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except TypeError:
        raise ConfigurationError(
            f"http.key: {key}: is encrypted; it must be given without a password"
        ) from None
    except ValueError:
        raise ConfigurationError(f"http.key: {key}: holds no PEM private key") from None
    if private.public_key() != loaded.public_key():
        raise ConfigurationError(f"http.key: {key}: does not belong to {certificate}")
    if loaded.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        raise ConfigurationError(
            f"http.certificate: {certificate}: expired on {loaded.not_valid_after_utc:%Y-%m-%d}"
        )
