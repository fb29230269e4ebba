"""WWW-Authenticate and Authorization values of the Digest scheme (RFC 8760, RFC 7616 3.3 and 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.sip.grammar import SipSyntaxError, excerpt, is_token, quote, split_outside, unquote


def _digest_fields(text: str, what: str) -> dict[str, str]:
    scheme, _, rest = text.strip().partition(" ")
    if scheme.lower() != "digest":
        raise SipSyntaxError(f"{what} is not of the Digest scheme: {excerpt(scheme)}")
    fields: dict[str, str] = {}
    for part in split_outside(rest, ","):
        if not part:
            continue
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not equals or not is_token(name):
            raise SipSyntaxError(f"{what} has a part that is not name=value: {excerpt(part)}")
        if name in fields:
            raise SipSyntaxError(f"{what} has {name} twice")
        fields[name] = unquote(value)
    return fields


def _need(fields: dict[str, str], name: str, what: str) -> str:
    if name not in fields:
        raise SipSyntaxError(f"{what} lacks {name}")
    return fields[name]


def is_digest(text: str) -> bool:
    return text.strip()[:7].lower() in ("digest ", "digest\t")


@dataclass(frozen=True, slots=True)
class Challenge:
    """A digest challenge. ``algorithm`` None means MD5; an empty ``qop`` is a server of RFC 2069 style."""

    realm: str
    nonce: str
    algorithm: str | None = None
    qop: tuple[str, ...] = ()
    opaque: str | None = None
    stale: bool = False

    @classmethod
    def parse(cls, text: str) -> Challenge:
        fields = _digest_fields(text, "the challenge")
        return cls(
            realm=_need(fields, "realm", "the challenge"),
            nonce=_need(fields, "nonce", "the challenge"),
            algorithm=fields.get("algorithm"),
            qop=tuple(name.strip().lower() for name in fields.get("qop", "").split(",") if name.strip()),
            opaque=fields.get("opaque"),
            stale=fields.get("stale", "").lower() == "true",
        )

    def __str__(self) -> str:
        parts = [f"realm={quote(self.realm)}", f"nonce={quote(self.nonce)}"]
        if self.stale:
            parts.append("stale=true")
        if self.algorithm is not None:
            parts.append(f"algorithm={self.algorithm}")
        if self.qop:
            parts.append(f'qop="{",".join(self.qop)}"')
        if self.opaque is not None:
            parts.append(f"opaque={quote(self.opaque)}")
        return "Digest " + ", ".join(parts)


@dataclass(frozen=True, slots=True)
class DigestCredentials:
    """The answer to a challenge. ``nc`` is the count as the peer wrote it (eight hexadecimal digits)."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str | None = None
    cnonce: str | None = None
    opaque: str | None = None
    qop: str | None = None
    nc: str | None = None

    @classmethod
    def parse(cls, text: str) -> DigestCredentials:
        what = "the authorization"
        fields = _digest_fields(text, what)
        return cls(
            username=_need(fields, "username", what),
            realm=_need(fields, "realm", what),
            nonce=_need(fields, "nonce", what),
            uri=_need(fields, "uri", what),
            response=_need(fields, "response", what).lower(),
            algorithm=fields.get("algorithm"),
            cnonce=fields.get("cnonce"),
            opaque=fields.get("opaque"),
            qop=fields["qop"].lower() if fields.get("qop") else None,
            nc=fields.get("nc"),
        )

    def __str__(self) -> str:
        quoted = (
            ("username", self.username),
            ("realm", self.realm),
            ("nonce", self.nonce),
            ("uri", self.uri),
        )
        parts = [f"{name}={quote(value)}" for name, value in (*quoted, ("response", self.response))]
        if self.algorithm is not None:
            parts.append(f"algorithm={self.algorithm}")
        if self.cnonce is not None:
            parts.append(f"cnonce={quote(self.cnonce)}")
        if self.opaque is not None:
            parts.append(f"opaque={quote(self.opaque)}")
        if self.qop is not None:
            parts.append(f"qop={self.qop}")
        if self.nc is not None:
            parts.append(f"nc={self.nc}")
        return "Digest " + ", ".join(parts)
