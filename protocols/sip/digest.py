"""Digest access authentication for SIP: RFC 3261 22, RFC 7616, RFC 8760; both sides.

Algorithms stand in one table; another hash (SM3, say) is one row more.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from protocols.sip.authorization import Challenge, DigestCredentials, is_digest
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.message import Request
from protocols.sip.uri import SipUri

HASHES: Mapping[str, Callable[[bytes], str]] = {
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
}
"""Algorithm token to hash, strongest first; each also serves its ``-sess`` form."""


@dataclass(frozen=True, slots=True)
class Password:
    """A user's secret in the clear."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HashedPassword:
    """H(username:realm:password) in hexadecimal, one for each algorithm it was computed for."""

    by_algorithm: Mapping[str, str] = field(repr=False)


Secret = Password | HashedPassword


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def hashed_password(username: str, realm: str, password: str, algorithm: str) -> str:
    """HA1 of the plain (not -sess) algorithm."""
    return HASHES[algorithm](_encoded(f"{username}:{realm}:{password}"))


def expected_response(credentials: DigestCredentials, secret: Secret, method: str, body: bytes) -> str | None:
    """What the right password makes of it; None for want of algorithm or HA1."""
    named = (credentials.algorithm or "MD5").upper()
    base = named.removesuffix("-SESS")
    hash_of = HASHES.get(base)
    if hash_of is None:
        return None
    if isinstance(secret, Password):
        ha1 = hashed_password(credentials.username, credentials.realm, secret.text, base)
    else:
        found = secret.by_algorithm.get(base)
        if found is None:
            return None
        ha1 = found.lower()
    if named.endswith("-SESS"):
        ha1 = hash_of(_encoded(f"{ha1}:{credentials.nonce}:{credentials.cnonce or ''}"))
    a2 = f"{method}:{credentials.uri}"
    if credentials.qop == "auth-int":
        a2 += f":{hash_of(body)}"
    ha2 = hash_of(_encoded(a2))
    if credentials.qop is None:
        return hash_of(_encoded(f"{ha1}:{credentials.nonce}:{ha2}"))
    middle = f"{credentials.nonce}:{credentials.nc or ''}:{credentials.cnonce or ''}:{credentials.qop}"
    return hash_of(_encoded(f"{ha1}:{middle}:{ha2}"))


class Outcome(Enum):
    """What became of a request's credentials."""

    ABSENT = auto()
    VERIFIED = auto()
    STALE = auto()
    """The right password, but the nonce is old, of another life, or its count was seen: challenge anew."""
    WRONG = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """``username`` is what the caller claims; it is worth something only when the outcome is VERIFIED."""

    outcome: Outcome
    username: str = ""


@dataclass(slots=True)
class _Use:
    issued: float
    highest: int = 0
    seen: int = 0


class DigestServer:
    """Issues and checks nonces.

    A nonce proves itself (time, serial, HMAC), so a flood of challenges costs no memory; only nonces that
    were used rightly are kept, at most ``limit``, for the replay check of their counts.

    ``secret`` is random bytes of this process: nonces of another life are stale, not wrong.
    """

    _WINDOW = 64

    def __init__(self, realm: str, secret: bytes, lifetime: float = 300.0, limit: int = 10_000) -> None:
        self.realm = realm
        self._secret = secret
        self._lifetime = lifetime
        self._limit = limit
        self._serial = 0
        self._used: OrderedDict[str, _Use] = OrderedDict()
        self._not_before = float("-inf")

    def challenge(
        self, now: float, stale: bool = False, algorithms: Iterable[str] = tuple(HASHES)
    ) -> tuple[Challenge, ...]:
        """One challenge for each algorithm, the preferred one first (RFC 8760 2.4), with one nonce."""
        self._serial += 1
        stamp = f"{int(now * 1000):x}.{self._serial:x}"
        nonce = f"{stamp}.{self._proof(stamp)}"
        return tuple(Challenge(self.realm, nonce, name, ("auth",), stale=stale) for name in algorithms)

    def claim(self, authorizations: Sequence[str]) -> DigestCredentials | None:
        """The credentials for our realm among Authorization values; those that do not parse count as none."""
        for text in authorizations:
            if not is_digest(text):
                continue
            try:
                credentials = DigestCredentials.parse(text)
            except SipSyntaxError:
                continue
            if credentials.realm == self.realm:
                return credentials
        return None

    def check(self, claim: DigestCredentials, secret: Secret | None, request: Request, now: float) -> Verdict:
        """Judge a claim. ``secret`` None is an unknown user: as slow as a wrong password, and alike.

        Without a qop nothing ties the answer to one request, so there its URI must name the same user.
        """
        expected = expected_response(claim, secret or Password(""), request.method, request.body)
        right = hmac.compare_digest(_encoded(expected or "-"), _encoded(claim.response))
        if secret is None or expected is None or not right or claim.qop not in (None, "auth", "auth-int"):
            return Verdict(Outcome.WRONG, claim.username)
        if claim.qop is None and _user_of(claim.uri) != _user_of(request.uri):
            return Verdict(Outcome.WRONG, claim.username)
        issued = self._issued(claim.nonce)
        if issued is None or now - issued > self._lifetime or issued < self._not_before:
            return Verdict(Outcome.STALE, claim.username)
        if claim.qop is not None and not self._count(claim, issued, now):
            return Verdict(Outcome.STALE, claim.username)
        return Verdict(Outcome.VERIFIED, claim.username)

    def _proof(self, stamp: str) -> str:
        return hmac.new(self._secret, _encoded(f"{stamp}:{self.realm}"), hashlib.sha256).hexdigest()[:32]

    def _issued(self, nonce: str) -> float | None:
        stamp, _, proof = nonce.rpartition(".")
        if not hmac.compare_digest(_encoded(proof), _encoded(self._proof(stamp))):
            return None
        return int(stamp.partition(".")[0], 16) / 1000

    def _count(self, claim: DigestCredentials, issued: float, now: float) -> bool:
        """Whether this nonce count is new; counts may overtake each other within a window (UDP)."""
        try:
            count = int(claim.nc or "", 16)
        except ValueError:
            return False
        use = self._used.get(claim.nonce)
        if use is None:
            self._forget(now)
            use = self._used[claim.nonce] = _Use(issued)
        if count > use.highest:
            use.seen = (use.seen << min(count - use.highest, self._WINDOW)) & ((1 << self._WINDOW) - 1) | 1
            use.highest = count
            return True
        behind = use.highest - count
        if count < 1 or behind >= self._WINDOW or use.seen >> behind & 1:
            return False
        use.seen |= 1 << behind
        return True

    def _forget(self, now: float) -> None:
        while self._used:
            oldest = next(iter(self._used.values()))
            if now - oldest.issued <= self._lifetime and len(self._used) < self._limit:
                return
            # What is no longer remembered must not be usable a second time.
            self._not_before = max(self._not_before, oldest.issued + 0.001)
            self._used.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Login:
    """Our own name and password at somebody else's server; a `realm` keeps them to its challenges."""

    username: str
    password: str = field(repr=False)
    realm: str | None = None


class DigestClient:
    """Answers challenges, and counts its uses of each nonce."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._counts: OrderedDict[str, int] = OrderedDict()

    def answer(
        self, challenges: Sequence[str], method: str, uri: str, body: bytes, cnonce: str
    ) -> DigestCredentials | None:
        """Credentials for the strongest challenge we can answer; None when there is none."""
        parsed: list[Challenge] = []
        for text in challenges:
            if not is_digest(text):
                continue
            try:
                parsed.append(Challenge.parse(text))
            except SipSyntaxError:
                continue
        names = list(HASHES)
        fit = [
            challenge
            for challenge in parsed
            if _base(challenge) in HASHES
            and _qop_known(challenge)
            and self._login.realm in (None, challenge.realm)
        ]
        if not fit:
            return None
        return self._answer(min(fit, key=lambda one: names.index(_base(one))), method, uri, body, cnonce)

    def _answer(
        self, challenge: Challenge, method: str, uri: str, body: bytes, cnonce: str
    ) -> DigestCredentials:
        qop = "auth" if "auth" in challenge.qop else "auth-int" if challenge.qop else None
        session = (challenge.algorithm or "").upper().endswith("-SESS")
        nc: str | None = None
        if qop is not None:
            count = self._counts[challenge.nonce] = self._counts.get(challenge.nonce, 0) + 1
            nc = f"{count:08x}"
            while len(self._counts) > 16:
                self._counts.popitem(last=False)
        blank = DigestCredentials(
            username=self._login.username,
            realm=challenge.realm,
            nonce=challenge.nonce,
            uri=uri,
            response="",
            algorithm=challenge.algorithm,
            cnonce=cnonce if qop or session else None,
            opaque=challenge.opaque,
            qop=qop,
            nc=nc,
        )
        response = expected_response(blank, Password(self._login.password), method, body)
        assert response is not None, "the challenge was chosen for its algorithm"
        return replace(blank, response=response)


def _user_of(uri: str) -> str:
    try:
        return SipUri.parse(uri).user_text
    except SipSyntaxError:
        return uri


def _base(challenge: Challenge) -> str:
    return (challenge.algorithm or "MD5").upper().removesuffix("-SESS")


def _qop_known(challenge: Challenge) -> bool:
    return not challenge.qop or bool({"auth", "auth-int"} & set(challenge.qop))
