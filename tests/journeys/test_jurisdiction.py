"""Another county's camera, violation, recording, broadcast and meeting: by no route, no event, no player.

The routes are walked from the OpenAPI document, so that a new one is asked about here or fails.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import av
import pytest
import pytest_asyncio
from aiortc import RTCPeerConnection

from tests.journeys.live import Live, listening
from tests.peers.gst_camera import gst_camera, pipeline
from tests.peers.node import PASSWORD, SIP_ACCOUNT, Api, Node
from tests.peers.ports import PortBlock
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = [requires("gst-rtsp-server"), pytest.mark.asyncio(loop_scope="module")]

CAMERA, NAME = "adit", "东门平硐"
OTHER = "hengxian"
FOREIGNERS = ("heng-monitor", "heng-operator", "heng-keeper")
"""Of another county: a monitor, an operator, a system administrator. Each may do there what is asked here."""
THESE = {
    "cameras": "camera",
    "streams": "stream",
    "rules": "rule",
    "violations": "violation",
    "recordings": "recording",
    "broadcasts": "broadcast",
    "conferences": "meeting",
}
"""First nouns of routes, and whose id stands behind each."""
NOT_THESE = frozenset(
    {"session", "guest-session", "users", "sites", "links", "audit", "health", "ice-servers", "openapi.json"}
    | {"rule-kinds", "sip-registrations", "sip-trunks", "schedules"}
)
"""Those that neither show nor touch a camera, violation, recording, broadcast or running meeting."""
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Ask:
    """A request with the ids of county Wuming's things. `who` of Wuming may make it, and is answered."""

    route: str
    who: str
    body: Any = None

    def path(self, ids: dict[str, str]) -> str:
        template = self.route.partition(" ")[2]
        return template.format_map(ids)


WATCH, JOIN = "POST /streams/{stream}/whep", "POST /conferences/{meeting}/webrtc"
MONITOR, OPERATOR, KEEPER = "monitor", "operator", "system-admin"
ASKS = (
    Ask("GET /cameras/{camera}", MONITOR),
    Ask("GET /cameras/{camera}/snapshot.jpg", MONITOR),
    Ask("GET /cameras/{camera}/recording", MONITOR),
    Ask("GET /cameras/{camera}/rules", MONITOR),
    Ask("GET /cameras/{camera}/analysis", MONITOR),
    Ask(WATCH, MONITOR, "offer"),
    Ask("DELETE /streams/{stream}/whep/{viewer}", MONITOR),
    Ask("GET /violations/{violation}", MONITOR),
    Ask("GET /violations/{violation}/snapshot.jpg", MONITOR),
    Ask("GET /violations/{violation}/clip.mp4", MONITOR),
    Ask("POST /violations/{violation}/review", MONITOR, {"action": "comment", "comment": "看", "version": 1}),
    Ask("GET /recordings/{recording}", MONITOR),
    Ask("GET /recordings/{recording}/file.mp4", MONITOR),
    Ask("GET /recordings/{recording}/file.mp4?download=1", MONITOR),
    Ask("GET /conferences/{meeting}", OPERATOR),
    Ask("GET /conferences/{meeting}/participants", OPERATOR),
    Ask("GET /conferences/{meeting}/report", OPERATOR),
    Ask("GET /conferences/{meeting}/recording", OPERATOR),
    Ask("PUT /conferences/{meeting}/recording", OPERATOR, {"on": False}),
    Ask("POST /conferences/{meeting}/commands", OPERATOR, {"command": "mosaic"}),
    Ask("PATCH /conferences/{meeting}/participants/{participant}", OPERATOR, {"muted": True}),
    Ask("DELETE /conferences/{meeting}/participants/{participant}", OPERATOR),
    Ask("POST /conferences/{meeting}/participants", OPERATOR, {"address": f"camera:{CAMERA}"}),
    Ask(JOIN, OPERATOR, {"sdp": "offer"}),
    Ask("DELETE /conferences/{meeting}/webrtc/{page}", OPERATOR),
    Ask("POST /cameras/{camera}/rules", MONITOR, {"kind": "frozen", "name": "定格"}),
    Ask("PATCH /rules/{rule}", MONITOR, {"name": "全黑"}),
    Ask("PUT /cameras/{camera}/recording", MONITOR, {"on": False}),
    Ask("PATCH /broadcasts/{broadcast}", OPERATOR, {"title": "平硐"}),
    Ask("DELETE /broadcasts/{broadcast}", OPERATOR),
    Ask("PATCH /cameras/{camera}", KEEPER, {"name": NAME}),
    Ask("DELETE /rules/{rule}", MONITOR),
    Ask("DELETE /recordings/{recording}", KEEPER),
    Ask("DELETE /conferences/{meeting}", OPERATOR),
    Ask("DELETE /cameras/{camera}", KEEPER),
)
"""What destroys comes last: at the end each is made by who may, so that no refusal is one of a wrong id."""
LISTS = (
    "/cameras",
    "/violations",
    "/recordings",
    "/recordings/subjects",
    "/broadcasts",
    "/conferences",
)
WITHOUT_ID = {
    *(f"GET {path}" for path in LISTS),
    "GET /violations/summary",
    "GET /recordings/report",
    "GET /recordings/playlist.m3u8",
    "POST /cameras",
    "POST /cameras/test",
    "POST /conferences",
    "POST /broadcasts",
}
"""Asked about in tests of their own."""


@dataclass(frozen=True, slots=True)
class County:
    """Wuming's things, and who of Hengxian would like to see them."""

    node: Node
    ids: dict[str, str]
    offer: str
    foreign: Live
    own: Live

    async def ask(self, user: str, ask: Ask) -> tuple[int, bytes]:
        """Status and body of the answer."""
        api = await self.node.user(user)
        method, path = ask.route.partition(" ")[0], ask.path(self.ids)
        headers, data = dict(api.headers), None
        if ask.body == "offer":
            headers["Content-Type"], data = "application/sdp", self.offer.encode()
        elif ask.body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(ask.body).replace('"offer"', json.dumps(self.offer)).encode()
        url = f"{self.node.url}/api/v1{path}"
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session,
            session.request(method, url, data=data, headers=headers) as answer,
        ):
            body = await answer.read()
            if answer.ok and ask.route == WATCH:
                self.ids["viewer"] = answer.headers["Location"].rpartition("/")[2]
            if answer.ok and ask.route == JOIN:
                self.ids["page"] = json.loads(body)["participant_id"]
            return answer.status, body


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    settings = {
        "edge": {"enabled": True},
        "recordings": {"enabled": True, "reserve_megabytes": 16},
        "analytics": {"enabled": True, "rate": 2.0},
    }
    async with Node(tmp_path_factory.mktemp("jurisdiction"), settings=settings) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def county(node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[County]:
    folder = tmp_path_factory.mktemp("county")
    manager = await node.user(KEEPER)
    await settle_hengxian(node, manager)
    offer = await an_offer()
    monitor, operator = await node.user(MONITOR), await node.user(OPERATOR)
    async with AsyncExitStack() as stack:
        foreign = await stack.enter_async_context(listening(await node.user(FOREIGNERS[0])))
        own = await stack.enter_async_context(listening(monitor))
        launch = pipeline(0, width=320, height=240, sound="PCMA")
        ports = stack.enter_context(PortBlock())
        port = ports.take()
        await stack.enter_async_context(gst_camera(folder, port, launch))
        row = {"id": CAMERA, "site_id": "wuming", "name": NAME, "url": f"rtsp://127.0.0.1:{port}/camera"}
        await manager.post("/cameras", row)
        ids = {"camera": CAMERA, "stream": f"camera:{CAMERA}"}
        found = County(node, ids, offer, foreign, own)
        dark = {"kind": "black", "name": "全黑", "parameters": {"seconds": 1}}
        ids["rule"] = (await monitor.post(f"/cameras/{CAMERA}/rules", dark))["id"]
        await monitor.request("PUT", f"/cameras/{CAMERA}/recording", {"on": True})
        meeting = await operator.post("/conferences", {"title": "武鸣会商", "host_site_id": "wuming"})
        ids["meeting"] = meeting["id"]
        told = {"address": f"camera:{CAMERA}"}
        row = await operator.post(f"/conferences/{meeting['id']}/participants", told)
        ids["participant"] = row["id"]
        private = {"kind": "camera", "subject": CAMERA, "public": False}
        broadcast = await operator.post("/broadcasts", private)
        ids["broadcast"], ids["live"] = broadcast["id"], broadcast["name"]
        ids["violation"] = (await own.hears("ViolationFlagged", camera_id=CAMERA))["violation_id"]
        await until(
            lambda: monitor.get(f"/violations/{ids['violation']}"),
            lambda row: row["snapshot"] and row["clip_state"] in ("ready", "partial"),
            "the evidence",
            PATIENCE,
        )
        await monitor.request("PUT", f"/cameras/{CAMERA}/recording", {"on": False})
        page = await until(
            lambda: monitor.get(f"/recordings?subject={CAMERA}"),
            lambda page: bool(page["items"]) and page["items"][0]["state"] == "finished",
            "a recording",
            PATIENCE,
        )
        ids["recording"] = page["items"][0]["id"]
        yield found


async def settle_hengxian(node: Node, manager: Api) -> None:
    site = {"id": OTHER, "parent_id": "nanning", "name": "横县", "kind": "county"}
    await manager.post("/sites", site)
    keeper = await node.user("security-admin")
    roles = (["monitor"], ["operator"], ["system-admin"])
    for name, held in zip(FOREIGNERS, roles, strict=True):
        await keeper.post("/users", {"name": name, "password": PASSWORD, "roles": held, "site_id": OTHER})
    account = {"username": "heng-player", "password": PASSWORD}
    await manager.post(f"/sites/{OTHER}/sip-accounts", account)


async def an_offer() -> str:
    """What a browser that wants to watch offers."""
    connection = RTCPeerConnection()
    connection.addTransceiver("audio", direction="recvonly")
    connection.addTransceiver("video", direction="recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    offer = connection.localDescription.sdp
    await connection.close()
    return str(offer)


def ask_of(route: str) -> Ask:
    return next(ask for ask in ASKS if ask.route == route)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, item in document["paths"].items():
        for method in item:
            yield method.upper(), path.removeprefix("/api/v1")


def shape(route: str) -> str:
    """A route without the names of what stands in braces, and without its query."""
    return "/".join("{}" if step.startswith("{") else step for step in route.partition("?")[0].split("/"))


def unasked(document: dict[str, Any]) -> Iterator[Ask]:
    """Routes of these things that the table does not have: asked all the same, with whatever ids fit."""
    asked = {shape(ask.route) for ask in ASKS} | WITHOUT_ID
    for method, path in operations(document):
        noun = path.split("/")[1]
        if noun in THESE and shape(f"{method} {path}") not in asked:
            operation = document["paths"][f"/api/v1{path}"][method.lower()]
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            template = path.replace("{id}", "{" + THESE[noun] + "}")
            yield Ask(f"{method} {template}", "", least(content.get("schema"), document))


def least(schema: dict[str, Any] | None, document: dict[str, Any]) -> Any:
    """Something that fits the schema: required members only."""
    if schema is None:
        return None
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return least(document["components"]["schemas"][name], document)
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return least(choices[0], document)
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    required = schema.get("required", ())
    simple: dict[str, Any] = {
        "string": "2030-01-01T00:00:00Z" if schema.get("format") == "date-time" else "x",
        "integer": schema.get("minimum", 1),
        "number": schema.get("minimum", 1),
        "boolean": True,
        "array": [],
        "object": {key: least(schema["properties"][key], document) for key in required},
    }
    return simple.get(schema.get("type", ""))


async def test_it_is_known_of_every_route_what_it_is_about(county: County) -> None:
    document = await county.node.visitor.get("/openapi.json")
    nouns = {path.split("/")[1] for _, path in operations(document)}
    assert nouns - THESE.keys() - NOT_THESE == set(), (
        "new: put it in THESE, with a row in ASKS, or in NOT_THESE"
    )


async def test_no_route_shows_or_touches_what_is_another_county_s(county: County) -> None:
    for ask in (ask_of(WATCH), ask_of(JOIN)):  # a viewer and a page that foreigners could end
        assert (await county.ask(ask.who, ask))[0] < 300
    document = await county.node.visitor.get("/openapi.json")
    served = {shape(f"{method} {path}") for method, path in operations(document)}
    assert {shape(ask.route) for ask in ASKS} | WITHOUT_ID <= served
    secrets = [NAME.encode(), *(one.encode() for one in county.ids.values())]
    wrong = []
    for user in FOREIGNERS:
        for ask in (*ASKS, *unasked(document)):
            status, body = await county.ask(user, ask)
            echoed = ask.path(county.ids).encode()
            if status not in (403, 404) or any(one in body and one not in echoed for one in secrets):
                wrong.append((user, ask.route, status, body[:200]))
    assert wrong == []


async def test_lists_and_sums_are_without_it(county: County) -> None:
    for user in FOREIGNERS[:2]:
        for path in LISTS:
            status, body = await county.ask(user, Ask(f"GET {path}", MONITOR))
            assert status in (200, 403)
            if status == 200:
                found = json.loads(body)
                assert (found["items"] if isinstance(found, dict) else found) == [], path
    api = await county.node.user(FOREIGNERS[0])
    assert await api.get("/violations/summary") == {"open": 0, "claimed": 0, "today": 0, "by_kind": {}}
    recorded = await (await county.node.user(MONITOR)).get(f"/recordings/{county.ids['recording']}")
    when = f"from={recorded['started_at']}&to={recorded['ended_at']}".replace("+", "%2B")
    playlist = f"GET /recordings/playlist.m3u8?kind=camera&subject={CAMERA}&{when}"
    assert (await county.ask(FOREIGNERS[0], Ask(playlist, MONITOR)))[0] == 404
    status, body = await county.ask(MONITOR, Ask(playlist, MONITOR))
    assert status == 200
    assert county.ids["recording"].encode() in body


async def test_what_it_shows_is_not_called_in_broadcast_or_played_from_elsewhere(county: County) -> None:
    operator = await county.node.user(FOREIGNERS[1])
    own = await operator.post("/conferences", {"title": "横县", "host_site_id": OTHER})
    called = Ask(f"POST /conferences/{own['id']}/participants", OPERATOR, {"address": f"camera:{CAMERA}"})
    refused = (
        called,
        Ask("POST /broadcasts", OPERATOR, {"kind": "camera", "subject": CAMERA}),
        Ask("POST /broadcasts", OPERATOR, {"kind": "conference", "subject": county.ids["meeting"]}),
        Ask("POST /conferences", OPERATOR, {"title": "武鸣", "host_site_id": "wuming"}),
    )
    for ask in refused:
        status, body = await county.ask(FOREIGNERS[1], ask)
        assert status in (403, 404), (ask.route, body)
    keeper = FOREIGNERS[2]
    there = {"site_id": "wuming", "url": "rtsp://127.0.0.1:1/x"}
    for ask in (
        Ask("POST /cameras", KEEPER, {"name": "x", **there}),
        Ask("POST /cameras/test", KEEPER, there),
    ):
        assert (await county.ask(keeper, ask))[0] == 403, ask.route
    rtsp = f"127.0.0.1:{county.node.rtsp_port}/camera/{CAMERA}"
    with pytest.raises(av.HTTPNotFoundError):
        await asyncio.to_thread(first_packet, f"rtsp://heng-player:{PASSWORD}@{rtsp}")
    assert await asyncio.to_thread(first_packet, f"rtsp://{SIP_ACCOUNT[0]}:{PASSWORD}@{rtsp}")


def first_packet(url: str) -> int:
    """The size of the first packet that a player gets."""
    with av.open(url, options={"rtsp_transport": "tcp"}, timeout=20.0) as player:
        return next(packet.size for packet in player.demux(video=0))


async def test_no_event_of_it_is_heard(county: County) -> None:
    """What the own monitor heard meanwhile, and the other county's did not; its own camera's it hears."""
    heard = {event["type"] for event in county.own.heard}
    assert heard >= {
        "CameraChanged",
        "CameraStateChanged",
        "RecordingChanged",
        "ViolationFlagged",
        "ViolationChanged",
        "BroadcastChanged",
        "ConferenceOpened",
        "ParticipantChanged",
    }
    manager = await county.node.user(FOREIGNERS[2])
    told = {"id": "heng-gate", "site_id": OTHER, "name": "横县大门", "url": "rtsp://127.0.0.1:1/x"}
    await manager.post("/cameras", told)
    await county.foreign.hears("CameraChanged", camera_id="heng-gate")  # whatever was before it has come
    await manager.delete("/cameras/heng-gate")
    assert [event for event in county.foreign.heard if names_it(event, county.ids)] == []
    assert any(names_it(event, county.ids) for event in county.own.heard)


def names_it(event: dict[str, Any], ids: dict[str, str]) -> bool:
    """Whether an event is about Wuming or anything of it."""
    values = {str(value) for value in event.values()}
    return not values.isdisjoint({"wuming", *ids.values()})


async def test_every_one_of_these_requests_is_answered_to_who_may_make_it(county: County) -> None:
    """The control: ids, bodies and rights were such that only the county was in the way."""
    monitor = await county.node.user(MONITOR)
    refused = []
    for ask in ASKS:
        sent = ask
        if ask.route.startswith("POST /violations"):
            row = await monitor.get(f"/violations/{county.ids['violation']}")
            sent = Ask(ask.route, ask.who, {**ask.body, "version": row["version"]})
        status, body = await county.ask(ask.who, sent)
        if status >= 400:
            refused.append((ask.route, status, body[:300]))
    assert refused == []
