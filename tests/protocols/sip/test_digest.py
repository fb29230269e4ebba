import hashlib

import pytest

from protocols.sip.authorization import Challenge, DigestCredentials
from protocols.sip.digest import (
    DigestClient,
    DigestServer,
    HashedPassword,
    Login,
    Outcome,
    Password,
    expected_response,
    hashed_password,
)
from protocols.sip.message import Request
from tests.protocols.sip.samples import request

ALICE = Login("alice", "wonder:land 安")
SECRET = Password(ALICE.password)
INVITE = request()


def server() -> DigestServer:
    return DigestServer("anshi", b"k" * 32, lifetime=300)


def answered(
    challenges: tuple[Challenge, ...], login: Login = ALICE, message: Request = INVITE
) -> DigestCredentials:
    texts = [str(challenge) for challenge in challenges]
    answer = DigestClient(login).answer(texts, message.method, message.uri, message.body, "cn")
    assert answer is not None
    return DigestCredentials.parse(str(answer))


def outcome(of: DigestServer, claim: DigestCredentials, now: float, message: Request = INVITE) -> Outcome:
    return of.check(claim, SECRET, message, now).outcome


def test_the_examples_of_rfc_7616_3_9_1() -> None:
    def example(algorithm: str) -> DigestCredentials:
        return DigestCredentials(
            username="Mufasa",
            realm="http-auth@example.org",
            nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            uri="/dir/index.html",
            response="",
            algorithm=algorithm,
            cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            qop="auth",
            nc="00000001",
        )

    secret = Password("Circle of Life")
    sha = expected_response(example("SHA-256"), secret, "GET", b"")
    assert sha == "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
    assert expected_response(example("MD5"), secret, "GET", b"") == "8ca523f5e9506fed4657c9700eebdbec"


def test_the_example_of_rfc_2617_without_qop_is_what_the_formula_says() -> None:
    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    claim = DigestCredentials("bob", "biloxi.com", "dcd98b", "sip:bob@biloxi.com", "")
    by_hand = md5(f"{md5('bob:biloxi.com:zanzibar')}:dcd98b:{md5('REGISTER:sip:bob@biloxi.com')}")
    assert expected_response(claim, Password("zanzibar"), "REGISTER", b"") == by_hand


def test_the_stronger_algorithm_is_offered_first_and_taken() -> None:
    challenges = server().challenge(10.0)
    assert [challenge.algorithm for challenge in challenges] == ["SHA-256", "MD5"]
    assert answered(challenges).algorithm == "SHA-256"
    assert answered(tuple(reversed(challenges))).algorithm == "SHA-256"


@pytest.mark.parametrize("index", [0, 1])
def test_the_right_password_is_verified_in_each_algorithm(index: int) -> None:
    digest = server()
    claim = answered(digest.challenge(10.0)[index : index + 1])
    assert outcome(digest, claim, 11.0) is Outcome.VERIFIED
    stored = HashedPassword(
        {name: hashed_password("alice", "anshi", ALICE.password, name) for name in ("SHA-256", "MD5")}
    )
    fresh = answered(digest.challenge(12.0)[index : index + 1])
    assert digest.check(fresh, stored, INVITE, 12.5).outcome is Outcome.VERIFIED


def test_wrong_password_unknown_user_and_other_request_are_wrong() -> None:
    digest = server()
    bad = answered(digest.challenge(10.0), Login("alice", "guess"))
    assert outcome(digest, bad, 11.0) is Outcome.WRONG
    assert digest.check(answered(digest.challenge(10.0)), None, INVITE, 11.0).outcome is Outcome.WRONG
    assert outcome(digest, answered(digest.challenge(10.0)), 11.0, request("REGISTER")) is Outcome.WRONG


def test_a_replayed_count_is_stale_and_overtaking_is_not() -> None:
    digest = server()
    challenges = [str(challenge) for challenge in digest.challenge(10.0)]
    client = DigestClient(ALICE)
    claims = [client.answer(challenges, "INVITE", INVITE.uri, b"", "cn") for _ in range(100)]
    assert all(claim is not None for claim in claims)
    assert [claim.nc for claim in claims[:2] if claim] == ["00000001", "00000002"]

    def seen(index: int) -> Outcome:
        claim = claims[index]
        assert claim is not None
        return outcome(digest, claim, 11.0)

    assert [seen(0), seen(2), seen(1)] == [Outcome.VERIFIED] * 3
    assert [seen(0), seen(1), seen(2)] == [Outcome.STALE] * 3
    assert seen(99) is Outcome.VERIFIED
    assert seen(5) is Outcome.STALE
    assert seen(98) is Outcome.VERIFIED


def test_an_old_foreign_or_forged_nonce_is_stale_not_wrong() -> None:
    digest = server()
    claim = answered(digest.challenge(10.0))
    assert outcome(digest, claim, 311.0) is Outcome.STALE
    assert outcome(DigestServer("anshi", b"another life".ljust(32)), claim, 11.0) is Outcome.STALE
    forged = answered((Challenge("anshi", "2710.1." + "0" * 32, "MD5", ("auth",)),))
    assert outcome(digest, forged, 11.0) is Outcome.STALE
    odd = answered((Challenge("anshi", "ü", "MD5", ("auth",)),))
    assert outcome(digest, odd, 11.0) is Outcome.STALE
    assert "stale=true" in str(digest.challenge(11.0, stale=True)[0])


def test_without_qop_the_answer_serves_only_the_user_it_names() -> None:
    digest = server()
    plain = Challenge("anshi", digest.challenge(10.0)[1].nonce)
    claim = answered((plain,))
    assert (claim.qop, claim.nc, claim.cnonce) == (None, None, None)
    assert outcome(digest, claim, 11.0) is Outcome.VERIFIED
    elsewhere = Request("INVITE", "sip:9999@192.0.2.1", INVITE.headers)
    assert outcome(digest, claim, 11.0, elsewhere) is Outcome.WRONG


def test_session_algorithms_and_integrity() -> None:
    digest = server()
    nonce = digest.challenge(10.0)[0].nonce
    message = Request("INVITE", INVITE.uri, INVITE.headers, b"sdp")
    claim = answered((Challenge("anshi", nonce, "MD5-sess", ("auth-int",)),), message=message)
    assert outcome(digest, claim, 11.0, message) is Outcome.VERIFIED
    tampered = Request("INVITE", INVITE.uri, INVITE.headers, b"sdp!")
    assert outcome(digest, claim, 11.0, tampered) is Outcome.WRONG


def test_memory_is_bounded_and_what_is_forgotten_cannot_come_again() -> None:
    digest = DigestServer("anshi", b"k" * 32, limit=10)
    claims = [answered(digest.challenge(float(second))) for second in range(30)]
    for claim in claims:
        assert outcome(digest, claim, 31.0) is Outcome.VERIFIED
    assert len(digest._used) <= 10
    assert all(outcome(digest, claim, 31.0) is Outcome.STALE for claim in claims)


def test_claims_are_found_by_realm_and_bad_ones_skipped() -> None:
    digest = server()
    good = str(answered(digest.challenge(1.0)))
    found = digest.claim(["Basic YTpi", "Digest realm=", good.replace("anshi", "other"), good])
    assert found is not None
    assert found.username == "alice"
    assert digest.claim(['Digest username="x", username="y"']) is None


def test_a_client_leaves_what_it_cannot_answer() -> None:
    client = DigestClient(ALICE)
    assert client.answer(["Negotiate abc", 'Digest realm="x"'], "INVITE", "sip:a", b"", "c") is None
    unknown = 'Digest realm="x", nonce="n", algorithm=SHA-999'
    assert client.answer([unknown], "INVITE", "sip:a", b"", "c") is None
    both = client.answer([unknown, 'Digest realm="x", nonce="n", algorithm=md5'], "INVITE", "sip:a", b"", "c")
    assert both is not None
    assert both.algorithm == "md5"


def test_secrets_do_not_show() -> None:
    assert "land" not in repr(ALICE) + repr(SECRET)
