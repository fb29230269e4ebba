"""RTSP's own header values, and the URLs of tracks."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.rtsp.description import Address, Presentation, base_url, resolve
from protocols.rtsp.headers import MalformedHeader, Public, Range, RtpInfo, Session, Transport

PAIRS = st.none() | st.tuples(st.integers(0, 255), st.integers(0, 255))


@given(
    st.builds(
        Transport,
        tcp=st.booleans(),
        unicast=st.booleans(),
        interleaved=PAIRS,
        client_port=PAIRS,
        server_port=PAIRS,
        source=st.none() | st.just("192.0.2.1"),
        ssrc=st.none() | st.integers(0, 2**32 - 1),
        mode=st.none() | st.just("PLAY"),
    )
)
def test_a_transport_survives_printing(transport: Transport) -> None:
    assert Transport.parse(str(transport)) == transport


def test_transports_of_the_field() -> None:
    found = Transport.parse_all(
        'RAW/UDP, RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=?;mode="play",RTP/AVP;multicast;client_port=5000'
    )
    assert found == (
        Transport(tcp=True, interleaved=(0, 1), mode="PLAY"),
        Transport(unicast=False, client_port=(5000, 5001)),
    )
    with pytest.raises(MalformedHeader, match="transport"):
        Transport.parse("FTP")


def test_session_range_public_and_rtp_info() -> None:
    assert Session.parse("12345678;timeout=30") == Session("12345678", 30)
    assert str(Session("a", 30)) == "a;timeout=30"
    assert Session.parse("a; timeout=zero").timeout == 60
    with pytest.raises(MalformedHeader):
        Session.parse(" ;timeout=3")
    assert Range.parse("npt=now-") == Range(None)
    assert Range.parse("npt=0:01:05.5-70") == Range(65.5, 70.0)
    assert str(Range()) == "npt=0.000-"
    with pytest.raises(MalformedHeader):
        Range.parse("clock=19961108T142300Z-")
    assert "GET_PARAMETER" in Public.parse(["OPTIONS, describe", "GET_PARAMETER"])
    text = "url=rtsp://h/a?x=1,2;q=3;seq=45102;rtptime=12345678, url=trackID=2;rtptime=7"
    assert RtpInfo.parse_all(text) == (
        RtpInfo("rtsp://h/a?x=1,2;q=3", 45102, 12345678),
        RtpInfo("trackID=2", None, 7),
    )
    assert RtpInfo.parse_all(", ".join(map(str, RtpInfo.parse_all(text)))) == RtpInfo.parse_all(text)


@given(st.text(max_size=80))
def test_rubbish_in_headers_is_refused_cleanly(text: str) -> None:
    Transport.parse_all(text)
    RtpInfo.parse_all(text)
    Public.parse([text])
    for parse in (Session.parse, Range.parse):
        with suppress(MalformedHeader):
            parse(text)


@pytest.mark.parametrize(
    ("base", "control", "url"),
    [
        ("rtsp://h/a", "*", "rtsp://h/a"),
        ("rtsp://h/a", "", "rtsp://h/a"),
        ("rtsp://h/a", "trackID=1", "rtsp://h/a/trackID=1"),
        ("rtsp://h/a/", "trackID=1", "rtsp://h/a/trackID=1"),
        ("rtsp://h/cam?channel=1&subtype=0", "trackID=0", "rtsp://h/cam?channel=1&subtype=0/trackID=0"),
        ("rtsp://h/cam?channel=1/", "trackID=0", "rtsp://h/cam?channel=1/trackID=0"),
        ("rtsp://h/a", "?ctype=video", "rtsp://h/a?ctype=video"),
        ("rtsp://h:8554/a/b", "/c/track1", "rtsp://h:8554/c/track1"),
        ("rtsp://h/a", "RTSP://other/x", "RTSP://other/x"),
    ],
)
def test_control_urls(base: str, control: str, url: str) -> None:
    assert resolve(base, control) == url


def test_bases_of_no_use_are_passed_over() -> None:
    assert base_url("rtsp://h/a", "rtsp://h/a/", None) == "rtsp://h/a/"
    assert base_url("rtsp://h/a", "live/", "rtsp://g/") == "rtsp://g/"
    assert base_url("rtsp://h/a", "", "http://h/") == "rtsp://h/a"


def test_tracks_of_a_description() -> None:
    sdp = (
        b"v=0\no=- 1 1 IN IP4 0.0.0.0\ns=camera\nt=0 0\na=control:*\n"
        b"m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 sprop-parameter-sets=Z0I=,aM4=\n"
        b"a=control:rtsp://h/a/video?x=1\n"
        b"m=audio 0 RTP/AVP 8\na=control:track2\nm=application 0 RTP/AVP 107\na=control:track3\n"
    )
    presentation = Presentation.parse(sdp, "rtsp://h/a/")
    video, audio = presentation.tracks
    assert presentation.control == "rtsp://h/a/"
    assert (video.codec, video.control, video.parameters["sprop-parameter-sets"]) == (
        "H264",
        "rtsp://h/a/video?x=1",
        "Z0I=,aM4=",
    )
    assert (audio.codec, audio.payload_type, audio.clock_rate, audio.control) == (
        "PCMA",
        8,
        8000,
        "rtsp://h/a/track2",
    )


def test_a_password_in_the_address_stays_out_of_the_url() -> None:
    address = Address.parse("rtsp://admin:p%40ss@192.0.2.7:8554/ch1?sub=0")
    assert (address.host, address.port, address.username, address.password) == (
        "192.0.2.7",
        8554,
        "admin",
        "p@ss",
    )
    assert address.url == "rtsp://192.0.2.7:8554/ch1?sub=0"
    assert "p@ss" not in repr(address)
    with pytest.raises(ValueError, match="rtsp://host"):
        Address.parse("http://192.0.2.7/")
