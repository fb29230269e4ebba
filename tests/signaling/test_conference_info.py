"""The conference-info document, against the structure of RFC 4575's own example (5.8) and schema (6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

from foundation.desks import Budget, Direction, MediaDescription, MediaSection, SectionKind
from signaling.conference_info import NAMESPACE, ConferenceInfo
from signaling.meeting import Access, Caller, MediaRecord, Meeting, Member, MemberState

CHILDREN = {
    "conference-info": ("conference-description", "host-info", "conference-state", "users"),
    "conference-description": ("display-text", "subject", "free-text", "keywords", "conf-uris"),
    "conf-uris": ("entry",),
    "entry": ("uri", "display-text", "purpose", "modified"),
    "conference-state": ("user-count", "active", "locked"),
    "users": ("user",),
    "user": ("display-text", "associated-aors", "roles", "languages", "cascaded-focus", "endpoint"),
    "endpoint": ("display-text", "referred", "status", "joining-method", "joining-info", "media"),
    "media": ("display-text", "type", "label", "src-id", "status"),
}
"""What each element may hold, in the order that its xs:sequence demands."""
ATTRIBUTES = {
    "conference-info": {"entity", "state", "version"},
    "users": {"state"},
    "user": {"entity", "state"},
    "endpoint": {"entity", "state"},
    "media": {"id"},
}
STATUS = {"pending", "dialing-out", "dialing-in", "alerting", "on-hold", "connected", "disconnected"}


def check(element: ElementTree.Element) -> None:
    """Assert that an element and all below it are as the schema has them."""
    namespace, name = element.tag[1:].split("}")
    assert namespace == NAMESPACE
    assert set(element.attrib) <= ATTRIBUTES.get(name, set())
    order = CHILDREN.get(name, ())
    places = [order.index(child.tag.split("}")[1]) for child in element]
    assert places == sorted(places), name
    if name == "status":
        assert element.text in STATUS | {direction.value for direction in Direction}
    for child in element:
        check(child)


def parsed(document: bytes) -> ElementTree.Element:
    assert document.startswith(b"<?xml version='1.0' encoding='UTF-8'?>")
    root = ElementTree.fromstring(document)
    check(root)
    return root


def texts(root: ElementTree.Element, path: str) -> list[str | None]:
    steps = "/".join(f"{{{NAMESPACE}}}{step}" for step in path.split("/"))
    return [found.text for found in root.findall(steps)]


def entities(root: ElementTree.Element) -> dict[str, str]:
    """State of each user of the document by its entity."""
    users = root.findall(f"{{{NAMESPACE}}}users/{{{NAMESPACE}}}user")
    return {user.attrib["entity"]: user.attrib["state"] for user in users}


def member(name: str, address: str, *, participant_id: str = "", muted: bool = False) -> Member:
    budget = Budget(1, 1)
    sections = (
        MediaSection(SectionKind.AUDIO, "192.0.2.1", 5000),
        MediaSection(SectionKind.VIDEO, "192.0.2.1", 5002, direction=Direction.RECVONLY),
        MediaSection(SectionKind.VIDEO, "192.0.2.1", 0),
        MediaSection(SectionKind.OTHER, "192.0.2.1", 5004),
    )
    described = MediaDescription(sections)
    return Member(
        participant_id or f"id-{name}",
        "m",
        Caller(name, "nanning", "lan", address),
        Access.DIALLED_IN,
        budget,
        budget,
        state=MemberState.CONNECTED,
        muted=muted,
        media=MediaRecord(described, described),
    )


def meeting(members: Sequence[Member], title: str = "防汛 & <会商>") -> ConferenceInfo:
    people = {one.participant_id: one for one in members}
    return ConferenceInfo.of(Meeting("m", "8001", title, "nation", None, members=people), "192.0.2.9")


ROOM = member("武鸣县", "sip:room@192.0.2.1:5060;transport=tcp")
PAGE = member("刘\x07工", "browser:liu", participant_id="77", muted=True)


def test_the_whole_state() -> None:
    root = parsed(meeting([ROOM, PAGE]).document(1))
    assert (root.attrib["entity"], root.attrib["state"], root.attrib["version"]) == (
        "sip:8001@192.0.2.9",
        "full",
        "1",
    )
    assert texts(root, "conference-description/display-text") == ["防汛 & <会商>"]
    assert texts(root, "conference-description/conf-uris/entry/uri") == ["sip:8001@192.0.2.9"]
    assert texts(root, "conference-state/user-count") == ["2"]
    assert texts(root, "conference-state/active") == ["true"]
    assert entities(root) == {"sip:room@192.0.2.1:5060": "full", "sip:77@192.0.2.9": "full"}
    assert texts(root, "users/user/display-text") == ["武鸣县", "刘工"]
    assert texts(root, "users/user/endpoint/status") == ["connected", "connected"]
    assert texts(root, "users/user/endpoint/joining-method") == ["dialed-in", "dialed-in"]
    assert texts(root, "users/user/endpoint/media/type") == ["audio", "video"] * 2
    assert texts(root, "users/user/endpoint/media/status") == ["sendrecv", "recvonly", "recvonly", "recvonly"]


def test_one_account_with_two_terminals_is_one_user() -> None:
    other = replace_id(ROOM, "second")
    root = parsed(meeting([ROOM, other]).document(1))
    assert entities(root) == {"sip:room@192.0.2.1:5060": "full"}
    assert len(texts(root, "users/user/endpoint/status")) == 2
    assert texts(root, "conference-state/user-count") == ["1"]


def replace_id(one: Member, participant_id: str) -> Member:
    return replace(one, participant_id=participant_id)


def test_what_has_changed() -> None:
    before = meeting([ROOM, PAGE])
    came = parsed(meeting([ROOM, PAGE, member("新", "sip:new@192.0.2.5")]).document(2, before))
    assert came.attrib["state"] == "partial"
    assert entities(came) == {"sip:new@192.0.2.5": "full"}
    assert texts(came, "conference-state/user-count") == ["3"]
    left = parsed(meeting([PAGE]).document(3, before))
    assert entities(left) == {"sip:room@192.0.2.1:5060": "deleted"}
    muted = parsed(meeting([replace(ROOM, muted=True), PAGE]).document(4, before))
    assert entities(muted) == {"sip:room@192.0.2.1:5060": "full"}
    assert texts(muted, "conference-state/user-count") == []
    named = parsed(meeting([ROOM, PAGE], "别的").document(5, before))
    assert texts(named, "conference-description/display-text") == ["别的"]
    assert entities(named) == {}


def test_the_end() -> None:
    before = meeting([ROOM])
    root = parsed(before.over.document(9, before))
    assert texts(root, "conference-state/active") == ["false"]
    assert texts(root, "conference-state/user-count") == ["0"]
    assert entities(root) == {"sip:room@192.0.2.1:5060": "deleted"}
