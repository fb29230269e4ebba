"""Signing in and out: cookies and tokens, CSRF, slowed guessing, guests, one's own password."""

from __future__ import annotations

from http.cookies import Morsel, SimpleCookie
from pathlib import Path

import pytest
from aiohttp import ClientResponse

from foundation.authorisation import Role
from orchestrator.web_app import SESSION_COOKIE
from tests.orchestrator.http_service import OFFER, PASSWORD, PIN, Service, problem, serving, settings_with

SESSION = "/api/v1/session"
GUEST = "/api/v1/guest-session"
PAGE = {"Origin": "https://gx.example"}


def cookie_of(response: ClientResponse) -> Morsel[str]:
    return SimpleCookie(response.headers["Set-Cookie"])[SESSION_COOKIE]


def sending(cookie: Morsel[str]) -> dict[str, str]:
    return {"Cookie": f"{SESSION_COOKIE}={cookie.value}"}


async def test_page_gets_a_cookie_and_no_token(service: Service) -> None:
    liu = await service.user(Role.OPERATOR, name="liu", site="nanning")
    response = await service.client.post(SESSION, json={"name": "liu", "password": PASSWORD}, headers=PAGE)
    body = await response.json()
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert body["token"] is None
    assert body["user"] == {
        "id": liu.user.id,
        "name": "liu",
        "display_name": "liu",
        "roles": ["operator"],
        "site_id": "nanning",
    }
    cookie = cookie_of(response)
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"], cookie["path"]) == (
        True,
        True,
        "Strict",
        "/",
    )
    assert cookie["max-age"] == ""  # gone with the browser, at the latest
    shown = await service.client.get(SESSION, headers=sending(cookie))
    assert await shown.json() == {
        "token": None,
        "csrf": body["csrf"],
        "user": body["user"],
        "conference_id": None,
    }


async def test_tool_gets_a_token_beside_the_cookie(service: Service) -> None:
    await service.user(Role.OPERATOR, name="liu")
    response = await service.client.post(SESSION, json={"name": "liu", "password": PASSWORD})
    token = (await response.json())["token"]
    assert token not in (None, cookie_of(response).value)
    for scheme in ("Bearer", "bearer"):
        shown = await service.client.get(SESSION, headers={"Authorization": f"{scheme} {token}"})
        assert shown.status == 200
    # The cookie's token is no bearer token, nor the other way round.
    crossed = {"Authorization": f"Bearer {cookie_of(response).value}"}
    await problem(await service.client.get(SESSION, headers=crossed), 401)
    crossed = {"Cookie": f"{SESSION_COOKIE}={token}"}
    await problem(await service.client.get(SESSION, headers=crossed), 401)


async def test_cookie_is_secure_where_the_proxy_speaks_https(sqlite_file: Path) -> None:
    settings = settings_with(tls=False, trusted_proxies=("127.0.0.1",))
    async with serving(sqlite_file, settings=settings) as service:
        await service.user(Role.OPERATOR, name="liu")
        for forwarded, secure in (("https", True), ("http", "")):
            response = await service.client.post(
                SESSION,
                json={"name": "liu", "password": PASSWORD},
                headers={"X-Forwarded-Proto": forwarded, "X-Forwarded-For": "192.0.2.9"},
            )
            assert cookie_of(response)["secure"] == secure


@pytest.mark.parametrize(
    "headers", [{}, {"Cookie": f"{SESSION_COOKIE}=stale"}, {"Authorization": "Bearer x"}]
)
async def test_who_am_i_without_a_session(service: Service, headers: dict[str, str]) -> None:
    answer = await problem(await service.client.get(SESSION, headers=headers), 401)
    assert answer["title"] == "Not signed in"


async def test_old_cookie_does_not_hinder_signing_in(service: Service) -> None:
    await service.user(Role.OPERATOR, name="liu")
    response = await service.client.post(
        SESSION,
        json={"name": "liu", "password": PASSWORD},
        headers={**PAGE, "Cookie": f"{SESSION_COOKIE}=stale"},
    )
    assert response.status == 200


async def test_sign_out_ends_the_session_and_takes_the_cookie(service: Service) -> None:
    liu = await service.user(Role.OPERATOR)
    response = await service.client.delete(SESSION, headers=liu.page)
    assert response.status == 204
    assert (cookie_of(response).value, cookie_of(response)["max-age"]) == ("", "0")
    await problem(await service.client.get(SESSION, headers=liu.cookie), 401)
    assert (await service.client.get(SESSION, headers=liu.bearer)).status == 200


@pytest.mark.parametrize("token", [None, "", "0" * 64, "不"])
async def test_cookie_cannot_write_without_its_csrf_token(service: Service, token: str | None) -> None:
    liu = await service.user(Role.OPERATOR)
    wang = await service.user(Role.OPERATOR, name="wang")
    for other in (token, wang.csrf):
        headers = dict(liu.cookie) if other is None else {**liu.cookie, "X-CSRF-Token": other}
        for method, path in (("DELETE", SESSION), ("POST", "/api/v1/conferences")):
            response = await service.client.request(method, path, json={"title": "例会"}, headers=headers)
            assert "X-CSRF-Token" in (await problem(response, 403))["detail"]
    assert (await service.client.get(SESSION, headers=liu.cookie)).status == 200
    assert service.meetings.running == ()
    opened = await service.client.post("/api/v1/conferences", json={"title": "例会"}, headers=liu.page)
    assert opened.status == 201


async def test_session_ends_when_it_is_not_used(service: Service) -> None:
    liu = await service.user(Role.OPERATOR)
    service.clock.advance(3601)
    await problem(await service.client.get(SESSION, headers=liu.cookie), 401)


# --- guessing -------------------------------------------------------------------------------------------


async def test_wrong_passwords_are_slowed_and_audited(service: Service) -> None:
    await service.user(Role.OPERATOR, name="liu")
    wrong = {"name": "liu", "password": "wrong"}
    answers = [await service.client.post(SESSION, json=wrong) for _ in range(6)]
    assert [answer.status for answer in answers] == [401] * 4 + [429] * 2
    refused = await problem(answers[0], 401)
    assert refused["detail"] == "user name or password is wrong"
    slowed = await problem(answers[5], 429)
    assert answers[5].headers["Retry-After"] == "1"
    assert "try again in 1 s" in slowed["detail"]
    # The right one must wait too, and is then let in.
    right = {"name": "liu", "password": PASSWORD}
    await problem(await service.client.post(SESSION, json=right), 429)
    service.clock.advance(1.1)
    assert (await service.client.post(SESSION, json=right, headers=PAGE)).status == 200
    outcomes = [row.outcome for row in await service.audited() if row.actor == "liu"]
    assert outcomes == ["done", "done", "refused", "refused", "refused", "refused", "slowed", "done"]
    assert {row.address for row in await service.audited()} == {"10.1.2.3", "127.0.0.1"}


async def test_unknown_user_is_told_nothing_else(service: Service) -> None:
    await service.user(Role.OPERATOR, name="liu")
    known = await service.client.post(SESSION, json={"name": "liu", "password": "wrong"})
    unknown = await service.client.post(SESSION, json={"name": "nobody", "password": "wrong"})
    assert await problem(known, 401) == await problem(unknown, 401)


async def test_address_of_a_trusted_proxys_client_is_audited_and_others_are_not_believed(
    sqlite_file: Path,
) -> None:
    settings = settings_with(tls=False, trusted_proxies=("127.0.0.0/8", "10.0.0.0/8"))
    async with serving(sqlite_file, settings=settings) as service:
        for forwarded in (
            "6.6.6.6, 192.0.2.7, 10.0.0.1",
            "[2001:db8::1]:4711",
            "192.0.2.8:80",
            "::ffff:192.0.2.9",
            "192.0.2.1, garbage",
        ):
            wrong = {"name": f"nobody-{len(forwarded)}", "password": "wrong"}
            await service.client.post(SESSION, json=wrong, headers={"X-Forwarded-For": forwarded})
        found = [row.address for row in await service.audited()]
    assert found == ["192.0.2.7", "2001:db8::1", "192.0.2.8", "192.0.2.9", "127.0.0.1"]


async def test_forwarded_address_of_a_stranger_is_not_believed(service: Service) -> None:
    await service.client.post(
        SESSION, json={"name": "x", "password": "y"}, headers={"X-Forwarded-For": "192.0.2.7"}
    )
    assert [row.address for row in await service.audited()] == ["127.0.0.1"]


# --- guests ---------------------------------------------------------------------------------------------


async def test_guest_comes_in_by_number_and_pin(service: Service) -> None:
    meeting = await service.meeting(number="8001")
    response = await service.client.post(
        GUEST, json={"number": "8001", "pin": PIN, "name": " 刘 "}, headers=PAGE
    )
    body = await response.json()
    assert body["token"] is None
    assert body["conference_id"] == meeting.conference_id
    assert body["user"]["roles"] == ["guest"]
    assert body["user"]["display_name"] == "刘"
    cookie = cookie_of(response)
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"]) == (True, True, "Strict")
    shown = await (await service.client.get(SESSION, headers=sending(cookie))).json()
    assert (shown["csrf"], shown["conference_id"]) == (body["csrf"], meeting.conference_id)
    # Its writes need the CSRF token like any cookie's.
    join = f"/api/v1/conferences/{meeting.conference_id}/webrtc"
    await problem(await service.client.post(join, json={"sdp": OFFER}, headers=sending(cookie)), 403)
    page = {**sending(cookie), "X-CSRF-Token": body["csrf"]}
    assert (await service.client.post(join, json={"sdp": OFFER}, headers=page)).status == 200
    assert ("admit", "刘") in service.desk.calls
    assert (await service.client.delete(SESSION, headers=page)).status == 204
    await problem(await service.client.get(SESSION, headers=sending(cookie)), 401)
    entry = (await service.audited())[-1]
    assert (entry.action, entry.subject, entry.outcome) == ("guest-sign-in", "meeting:8001", "done")
    assert entry.actor.endswith(":刘")


async def test_guest_pass_ends(service: Service) -> None:
    headers, _ = await service.guest(await service.meeting())
    service.clock.advance(12 * 3600 + 1)
    answer = await problem(await service.client.get(SESSION, headers=headers), 401)
    assert "guest pass is over" in answer["detail"]


async def test_guests_of_one_name_are_two_people(service: Service) -> None:
    """One cannot hang the other up, nor take over the other's place with an offer of their own."""
    meeting = await service.meeting()
    (first, _), (second, _) = await service.guest(meeting), await service.guest(meeting)
    join = f"/api/v1/conferences/{meeting.conference_id}/webrtc"
    joined = await (await service.client.post(join, json={"sdp": OFFER}, headers=first)).json()
    taken = {"sdp": OFFER, "participant_id": joined["participant_id"]}
    await problem(await service.client.post(join, json=taken, headers=second), 403)
    await problem(await service.client.delete(f"{join}/{joined['participant_id']}", headers=second), 403)
    assert (await service.client.post(join, json=taken, headers=first)).status == 200


async def test_wrong_pins_are_slowed_by_address_and_audited(service: Service) -> None:
    await service.meeting(number="8001")
    wrong = {"number": "8001", "pin": "0000", "name": "刘"}
    answers = [await service.client.post(GUEST, json=wrong) for _ in range(8)]
    assert [answer.status for answer in answers] == [401] * 6 + [429] * 2
    assert answers[7].headers["Retry-After"] == "1"
    unknown = await service.client.post(GUEST, json={**wrong, "number": "9999"})
    assert unknown.status == 429
    outcomes = [row.outcome for row in await service.audited()]
    assert outcomes == ["refused"] * 6 + ["slowed"]
    service.clock.advance(1.1)
    assert (await service.client.post(GUEST, json={**wrong, "pin": PIN})).status == 200


async def test_own_meetings_pin_does_not_help_to_guess_anothers(service: Service) -> None:
    """Between two wrong PINs a right one forgives nothing."""
    await service.meeting(number="8001")
    await service.meeting(number="8002")
    own = {"number": "8002", "pin": PIN, "name": "刘"}
    statuses = []
    for _ in range(7):
        await service.client.post(GUEST, json=own)
        guess = await service.client.post(GUEST, json={**own, "number": "8001", "pin": "0000"})
        statuses.append(guess.status)
    assert statuses == [401] * 6 + [429]


async def test_one_meeting_is_not_guessed_from_many_addresses(sqlite_file: Path) -> None:
    settings = settings_with(tls=False, trusted_proxies=("127.0.0.1",))
    async with serving(sqlite_file, settings=settings) as service:
        await service.meeting(number="8001")
        wrong = {"number": "8001", "pin": "0000", "name": "刘"}
        statuses = []
        for host in range(33):
            headers = {"X-Forwarded-For": f"198.51.100.{host}"}
            statuses.append((await service.client.post(GUEST, json=wrong, headers=headers)).status)
    assert statuses == [401] * 31 + [429] * 2


async def test_wrong_number_reads_like_a_wrong_pin(service: Service) -> None:
    await service.meeting(number="8001")
    guest = {"number": "8001", "pin": "0000", "name": "刘"}
    wrong_pin = await problem(await service.client.post(GUEST, json=guest), 401)
    wrong_number = await problem(await service.client.post(GUEST, json={**guest, "number": "1"}), 401)
    assert wrong_pin == wrong_number


async def test_meeting_without_pin_takes_no_guests(service: Service) -> None:
    await service.meetings.open("内部", "guangxi", number="8003")
    await problem(await service.client.post(GUEST, json={"number": "8003", "pin": "0000", "name": "刘"}), 401)


async def test_guest_needs_a_name_that_can_be_shown(service: Service) -> None:
    await service.meeting(number="8001")
    for name in ("", "  ", "a\nb"):
        await problem(
            await service.client.post(GUEST, json={"number": "8001", "pin": PIN, "name": name}), 422
        )


# --- one's own password ------------------------------------------------------------------------------------


async def test_own_password_is_changed_and_other_sessions_end(service: Service) -> None:
    liu = await service.user(Role.OPERATOR, name="liu")
    change = {"old": PASSWORD, "new": "another 密码 12345"}
    response = await service.client.post(f"{SESSION}/password", json=change, headers=liu.page)
    assert response.status == 204
    assert (await service.client.get(SESSION, headers=liu.cookie)).status == 200
    await problem(await service.client.get(SESSION, headers=liu.bearer), 401)
    await problem(await service.client.post(SESSION, json={"name": "liu", "password": PASSWORD}), 401)
    signed = await service.client.post(SESSION, json={"name": "liu", "password": change["new"]})
    assert signed.status == 200


async def test_own_password_needs_the_old_one_and_a_good_new_one(service: Service) -> None:
    liu = await service.user(Role.OPERATOR, name="liu")
    path = f"{SESSION}/password"
    wrong = await service.client.post(path, json={"old": "no", "new": "another 密码 1"}, headers=liu.bearer)
    assert (await problem(wrong, 403))["detail"] == "the old password is wrong"
    weak = await service.client.post(path, json={"old": PASSWORD, "new": "short"}, headers=liu.bearer)
    assert (await problem(weak, 422))["title"] == "Weak password"
    assert [(row.action, row.outcome) for row in await service.audited()][-1] == (
        "change-password",
        "refused",
    )
