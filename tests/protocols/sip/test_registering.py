"""What follows each answer to a REGISTER of ours (RFC 3261 10.2, RFC 5626 4.5)."""

from __future__ import annotations

import pytest

from protocols.sip.message import Headers, Response
from protocols.sip.registering import LONGEST_WAIT, Next, Registering, Standing, granted_seconds
from protocols.sip.uri import SipUri

OURS = SipUri.parse("sip:a7f3@192.0.2.1:5060")


def answer(status: int, *fields: tuple[str, str]) -> Response:
    return Response(status, "", Headers(fields))


def test_a_registration_is_refreshed_well_before_it_ends() -> None:
    plan = Registering(600, 30.0)
    after = plan.took(answer(200, ("Contact", "<sip:a7f3@192.0.2.1:5060>;expires=300")), OURS, 0.5)
    assert (after.standing, after.granted) == (Standing.REGISTERED, 300)
    assert 0.75 * 300 <= after.wait <= 0.9 * 300


@pytest.mark.parametrize(
    ("fields", "granted"),
    [
        ([("Contact", "<sip:b@x>;expires=9, <sip:a7f3@203.0.113.9:1024;ob>;expires=120")], 120),
        ([("Contact", "<sip:a7f3@192.0.2.1>"), ("Expires", "180")], 180),
        ([("Contact", "<sip:a7f3@192.0.2.1>;expires=nonsense")], 600),
        ([], 600),
        ([("Contact", "<sip:somebody-else@192.0.2.1>;expires=60")], None),
        ([("Contact", "<sip:a7f3@192.0.2.1>;expires=0")], None),
    ],
)
def test_what_a_200_grants(fields: list[tuple[str, str]], granted: int | None) -> None:
    assert granted_seconds(answer(200, *fields), OURS, 600) == granted


def test_423_raises_the_interval_once() -> None:
    plan = Registering(600, 30.0)
    brief = answer(423, ("Min-Expires", "1800"))
    assert plan.took(brief, OURS, 0.0) == Next(Standing.AGAIN, 0.0, 1800)
    assert plan.took(brief, OURS, 0.0).standing is Standing.UNREACHABLE
    assert plan.took(answer(423, ("Min-Expires", "99999999")), OURS, 0.0).wait > 0


def test_a_redirection_is_followed_but_not_for_ever() -> None:
    plan = Registering(600, 30.0)
    moved = answer(302, ("Contact", "<sip:b.example.com:5070;transport=tcp>"))
    targets = [plan.took(moved, OURS, 0.0) for _ in range(6)]
    assert [str(one.target) for one in targets[:5]] == ["sip:b.example.com:5070;transport=tcp"] * 5
    assert targets[5].target is None
    assert targets[5].wait > 0
    assert plan.took(answer(302), OURS, 0.0).wait > 0


def test_failures_wait_longer_and_longer_and_a_success_forgets_them() -> None:
    plan = Registering(600, 10.0)
    waits = [plan.failed(1.0).wait for _ in range(12)]
    assert waits[:4] == [10.0, 20.0, 40.0, 80.0]
    assert waits[-1] == LONGEST_WAIT
    assert plan.took(answer(200), OURS, 0.0).standing is Standing.REGISTERED
    assert plan.failed(0.0).wait == 5.0


def test_a_refusal_is_told_from_silence_and_retry_after_is_obeyed() -> None:
    plan = Registering(600, 10.0)
    assert plan.took(answer(403), OURS, 0.0).standing is Standing.REFUSED
    busy = plan.took(answer(503, ("Retry-After", "120 (maintenance);duration=60")), OURS, 0.0)
    assert (busy.standing, busy.wait) == (Standing.UNREACHABLE, 120)
    assert plan.took(answer(500, ("Retry-After", "x")), OURS, 0.0).wait < 120
