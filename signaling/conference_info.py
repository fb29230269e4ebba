"""The conference-info document of RFC 4575: who is in a meeting, whole or as what has changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from xml.etree import ElementTree

from foundation.desks import Direction, SectionKind
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.uri import SipUri
from signaling.meeting import Access, Meeting, Member, MemberState

CONFERENCE_INFO = "application/conference-info+xml"
NAMESPACE = "urn:ietf:params:xml:ns:conference-info"

_STATUS = {
    MemberState.CALLING: "dialing-out",
    MemberState.CONNECTED: "connected",
    MemberState.SILENT: "connected",
    MemberState.LEFT: "disconnected",
}


@dataclass(frozen=True, slots=True)
class EndpointInfo:
    """One participant: status (5.7.3), how it joined, its media by type and direction."""

    entity: str
    status: str
    joining: str
    media: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Somebody, with each endpoint that he is in with."""

    entity: str
    name: str
    endpoints: tuple[EndpointInfo, ...]


@dataclass(frozen=True, slots=True)
class ConferenceInfo:
    """The state of a meeting at one moment; `entity` is its URI (5.2)."""

    entity: str
    title: str
    active: bool = True
    users: dict[str, UserInfo] = field(default_factory=dict)

    @classmethod
    def of(cls, meeting: Meeting, host: str) -> ConferenceInfo:
        """`host` is what stands behind the @ of URIs of ours."""
        users: dict[str, list[Member]] = {}
        for member in meeting.members.values():
            users.setdefault(_entity(member, host), []).append(member)
        infos = {
            entity: UserInfo(entity, mates[0].caller.name, tuple(_endpoint(mate, host) for mate in mates))
            for entity, mates in users.items()
        }
        return cls(f"sip:{meeting.number}@{host}", meeting.title, True, infos)

    @property
    def over(self) -> ConferenceInfo:
        """The same meeting when it has ended."""
        return ConferenceInfo(self.entity, self.title, active=False)

    def document(self, version: int, before: ConferenceInfo | None = None) -> bytes:
        """All of it, or what changed since `before` (4.5): changed users whole, those who left by name."""
        state = "full" if before is None else "partial"
        attributes = {"xmlns": NAMESPACE, "entity": self.entity, "state": state, "version": str(version)}
        root = ElementTree.Element("conference-info", attributes)
        if before is None or before.title != self.title:
            self._description(root)
        counted = before is not None and len(before.users) == len(self.users)
        if before is None or before.active != self.active or not counted:
            conference = ElementTree.SubElement(root, "conference-state")
            _text(conference, "user-count", str(len(self.users)))
            _text(conference, "active", "true" if self.active else "false")
        known = {} if before is None else before.users
        changed = [user for entity, user in self.users.items() if known.get(entity) != user]
        gone = [entity for entity in known if entity not in self.users]
        if before is None or changed or gone:
            _users(root, state, changed, gone)
        encoded: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
        return encoded

    def _description(self, root: ElementTree.Element) -> None:
        description = ElementTree.SubElement(root, "conference-description")
        _text(description, "display-text", self.title)
        entry = ElementTree.SubElement(ElementTree.SubElement(description, "conf-uris"), "entry")
        _text(entry, "uri", self.entity)
        _text(entry, "purpose", "participation")


def _users(root: ElementTree.Element, state: str, changed: Iterable[UserInfo], gone: Iterable[str]) -> None:
    users = ElementTree.SubElement(root, "users", {"state": state})
    for user in changed:
        element = ElementTree.SubElement(users, "user", {"entity": user.entity, "state": "full"})
        _text(element, "display-text", user.name)
        for one in user.endpoints:
            endpoint = ElementTree.SubElement(element, "endpoint", {"entity": one.entity})
            _text(endpoint, "status", one.status)
            _text(endpoint, "joining-method", one.joining)
            for number, (kind, direction) in enumerate(one.media, 1):
                media = ElementTree.SubElement(endpoint, "media", {"id": str(number)})
                _text(media, "type", kind)
                _text(media, "status", direction)
    for entity in gone:
        ElementTree.SubElement(users, "user", {"entity": entity, "state": "deleted"})


def _text(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = "".join(c for c in text if c.isprintable())


def _entity(member: Member, host: str) -> str:
    """The address it called from or was called at; a page or a camera, which has none, gets one of ours."""
    try:
        uri = str(SipUri.parse(member.caller.address).bare())
    except SipSyntaxError:
        return f"sip:{member.participant_id}@{host}"
    return uri if uri.isprintable() else f"sip:{member.participant_id}@{host}"


def _endpoint(member: Member, host: str) -> EndpointInfo:
    joining = "dialed-out" if member.access in (Access.DIALLED_OUT, Access.STREAM) else "dialed-in"
    media: list[tuple[str, str]] = []
    for section in member.media.theirs.sections if member.media is not None else ():
        if section.port and section.kind in (SectionKind.AUDIO, SectionKind.VIDEO):
            direction = section.direction
            if member.muted and section.kind is SectionKind.AUDIO and direction.sends:
                direction = Direction.RECVONLY if direction.receives else Direction.INACTIVE
            media.append((section.kind.value, direction.value))
    entity = f"sip:{member.participant_id}@{host}"
    return EndpointInfo(entity, _STATUS[member.state], joining, tuple(media))
