"""SDP of real peers becomes the neutral description, and our answers are what RFC 3264 asks for."""

from dataclasses import replace

import pytest

from foundation.desks import Direction, MediaDescription, MediaSection, Refusal, RefusalKind, SectionKind
from protocols.sdp import SessionDescription
from signaling.media_description import read_sdp, write_sdp

ROOM = b"""v=0
o=room 1 1 IN IP4 192.0.2.1
s=-
c=IN IP4 192.0.2.1
b=AS:4000
t=0 0
m=audio 30000 RTP/AVP 8 101
a=rtpmap:101 telephone-event/8000
m=video 30002 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 profile-level-id=42801f;packetization-mode=0
a=rtcp-fb:* ccm fir
a=content:main
m=application 9 TCP/BFCP *
a=floorctrl:c-s
m=video 30004 RTP/AVP 96
a=rtpmap:96 H264/90000
a=content:slides
"""

BROWSER = b"""v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=ice-ufrag:abcd
a=ice-pwd:0123456789012345678901
a=fingerprint:sha-256 AA:BB
a=setup:actpass
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=mid:0
a=rtcp-mux
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=rtpmap:111 opus/48000/2
m=video 9 UDP/TLS/RTP/SAVPF 96 97
c=IN IP4 0.0.0.0
a=mid:1
a=rtcp-mux
a=rtcp-rsize
a=recvonly
a=rtpmap:96 H264/90000
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
"""


def test_a_room_terminal_is_understood() -> None:
    offer = read_sdp(ROOM)
    assert offer.bandwidth_bps == 4_000_000
    audio, video, bfcp, slides = offer.sections
    assert [c.name for c in audio.codecs] == ["PCMA", "TELEPHONE-EVENT"]
    assert video.codecs[0].parameters == {"profile-level-id": "42801f", "packetization-mode": "0"}
    assert video.codecs[0].feedback == ("ccm fir",)
    assert (bfcp.kind, bfcp.protocol) == (SectionKind.FLOOR, "TCP/BFCP")
    assert bfcp.floor is not None
    assert bfcp.floor.roles == ("c-s",)
    assert (slides.kind, slides.content) == (SectionKind.SLIDES, "slides")


def test_a_browser_inherits_session_level_ice_and_fingerprint() -> None:
    audio, video = read_sdp(BROWSER).sections
    assert audio.ice is not None
    assert audio.ice.ufrag == "abcd"
    assert video.dtls is not None
    assert (video.dtls.fingerprint, video.dtls.setup) == ("AA:BB", "actpass")
    assert video.direction is Direction.RECVONLY
    assert audio.extensions == {4: "urn:ietf:params:rtp-hdrext:sdes:mid"}
    assert audio.direction is Direction.SENDRECV  # 0.0.0.0 with ICE is no hold


def test_parameters_over_several_lines_are_one_codecs() -> None:
    lines = (
        b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
        b"m=video 5004 RTP/AVP 97 98\r\na=rtpmap:97 H264/90000\r\na=rtpmap:98 H264/90000\r\n"
        b"a=fmtp:97 profile-level-id=42800d;packetization-mode=0\r\na=fmtp:98 profile-level-id=42801f\r\n"
        b"a=fmtp:97 packetization-mode=1;max-fs=3600\r\n"
    )
    first, second = read_sdp(lines).sections[0].codecs
    assert first.parameters == {"profile-level-id": "42800d", "packetization-mode": "1", "max-fs": "3600"}
    assert second.parameters == {"profile-level-id": "42801f"}


@pytest.mark.parametrize("blank", [" ", "\t", "\0", "\x1c", "\x1d", "\x1f"])
def test_a_bandwidth_may_end_in_blanks_of_any_kind(blank: str) -> None:
    lines = f"v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nb=AS:1920{blank}\nt=0 0\n"
    assert (
        read_sdp(f"{lines}m=audio 5004 RTP/AVP 8\nb=TIAS:64000{blank}\n".encode()).bandwidth_bps == 1_920_000
    )


def test_the_old_hold_means_that_the_peer_takes_nothing() -> None:
    held = read_sdp(ROOM.replace(b"c=IN IP4 192.0.2.1", b"c=IN IP4 0.0.0.0"))
    assert held.sections[0].direction is Direction.SENDONLY


def test_an_answer_has_every_section_in_order_and_refuses_with_port_0() -> None:
    offer = read_sdp(ROOM)
    answer = MediaDescription(
        sections=(
            replace(offer.sections[0], address="198.51.100.7", port=40000),
            replace(offer.sections[1], port=0),
            replace(offer.sections[2], port=0),
            replace(offer.sections[3], port=0),
        ),
        bandwidth_bps=3_000_000,
    )
    printed = SessionDescription.parse(write_sdp(answer, session_id=5, version=2))
    assert [(m.media, m.port, m.protocol) for m in printed.media] == [
        ("audio", 40000, "RTP/AVP"),
        ("video", 0, "RTP/AVP"),
        ("application", 0, "TCP/BFCP"),
        ("video", 0, "RTP/AVP"),
    ]
    assert printed.bandwidth == (("AS", 3000),)
    assert printed.connection is not None
    assert printed.connection.address == "198.51.100.7"
    assert (printed.origin.session_id, printed.origin.version) == ("5", 2)


def test_a_refused_picture_keeps_its_formats_and_its_names_and_is_given_none() -> None:
    """RFC 3264 6, RFC 4796: by a=content and a=label a terminal knows which of its pictures was refused."""
    plain = read_sdp(
        b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
        b"m=video 5000 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n"
        b"m=video 5002 RTP/AVPF 98 99\r\na=rtpmap:98 H265/90000\r\na=rtpmap:99 AV1/90000\r\n"
        b"a=mid:s\r\na=content:slides\r\na=label:12\r\n"
        b"m=video 5004 RTP/AVP 100\r\na=rtpmap:100 H264/90000\r\n"
    )
    served, slides, spare = plain.sections
    answer = replace(plain, sections=(served, refused(slides), refused(spare)))
    text = write_sdp(answer).decode().partition("m=")[2].split("m=")[1:]
    assert text == [
        "video 0 RTP/AVPF 98 99\r\na=inactive\r\na=mid:s\r\na=content:slides\r\na=label:12\r\n",
        "video 0 RTP/AVP 100\r\na=inactive\r\n",
    ]


def refused(section: MediaSection) -> MediaSection:
    """As workers refuse one."""
    return replace(section, port=0, codecs=())


def test_our_print_is_read_back_as_the_same_description() -> None:
    for offer in (read_sdp(BROWSER), read_sdp(ROOM)):
        again = read_sdp(write_sdp(offer))
        kept = [replace(s, ice=None, media="") for s in offer.sections if s.kind is not SectionKind.OTHER]
        for before, after in zip(
            kept, [s for s in again.sections if s.kind is not SectionKind.OTHER], strict=True
        ):
            assert (after.codecs, after.direction, after.mid) == (before.codecs, before.direction, before.mid)
            assert (after.dtls, after.port, after.protocol) == (before.dtls, before.port, before.protocol)


def test_what_cannot_be_read_is_the_peers_error() -> None:
    with pytest.raises(Refusal, match="session description") as caught:
        read_sdp(b"v=0\nrubbish\n")
    assert caught.value.kind is RefusalKind.BAD_DESCRIPTION


@pytest.mark.parametrize(
    ("value", "port", "address"),
    [
        (b"53020", 53020, None),
        (b"53020 IN IP4 198.51.100.4", 53020, "198.51.100.4"),
        (b"53020 IN IP6 2001:db8::1", 53020, "2001:db8::1"),
        (b"53020 IN IP4", 53020, None),
        (b"none IN IP4 198.51.100.4", None, "198.51.100.4"),
    ],
)
def test_where_rtcp_goes(value: bytes, port: int | None, address: str | None) -> None:
    """RFC 3605 2.1."""
    head = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    (section,) = read_sdp(head + b"m=audio 4000 RTP/AVP 8\r\na=rtcp:" + value + b"\r\n").sections
    assert (section.rtcp_port, section.rtcp_address) == (port, address)
