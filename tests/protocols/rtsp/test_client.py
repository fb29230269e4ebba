"""The client's session against a scripted server."""

import pytest

from protocols.rtsp.client import (
    ClientEvent,
    ClientSession,
    Described,
    Failed,
    Fault,
    Playing,
    State,
    TornDown,
    TrackReady,
    TrackRefused,
)
from protocols.rtsp.framing import Interleaved
from protocols.rtsp.headers import Transport
from protocols.rtsp.message import Request, Response, parse_message
from protocols.sip.digest import Login

URL = "rtsp://h/a"
SDP = (
    b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
    b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:t1\r\n"
)
TCP = Transport(tcp=True, interleaved=(0, 1))


class Script:
    def __init__(self, login: Login | None = None) -> None:
        self.session = ClientSession(URL, login, lambda: "c0ffee")
        self.now = 0.0
        self.session.start(self.now)

    def sent(self) -> Request:
        message = parse_message(self.session.take_output())
        assert isinstance(message, Request)
        return message

    def answer(self, status: int, *fields: tuple[str, str], body: bytes = b"") -> list[ClientEvent]:
        cseq = str(self.session._cseq)
        return self.session.receive(
            bytes(Response(status, "x", Response.of(200, ("CSeq", cseq), *fields).headers, body)), self.now
        )

    def play(self, *, public: str = "OPTIONS, GET_PARAMETER", timeout: int = 20) -> None:
        assert self.sent().method == "OPTIONS"
        self.answer(200, ("Public", public))
        assert self.sent().headers.get("Accept") == "application/sdp"
        (described,) = self.answer(200, body=SDP)
        assert isinstance(described, Described)
        self.session.setup([(described.presentation.tracks[0], TCP)], self.now)
        setup = self.sent()
        assert (setup.method, setup.uri) == ("SETUP", "rtsp://h/a/t1")
        (ready,) = self.answer(
            200, ("Session", f"77;timeout={timeout}"), ("Transport", "RTP/AVP/TCP;unicast;interleaved=4-5")
        )
        assert isinstance(ready, TrackReady)
        assert ready.transport.interleaved == (4, 5)
        play = self.sent()
        assert (play.method, play.uri, play.headers.get("Session")) == ("PLAY", URL, "77")
        (playing,) = self.answer(200, ("RTP-Info", "url=t1;seq=9"))
        assert isinstance(playing, Playing)
        assert playing.info[0].sequence == 9


def test_a_whole_life() -> None:
    script = Script()
    script.play()
    assert script.session.receive(b"$\x04\x00\x02hi", 1.0) == [Interleaved(4, b"hi")]
    script.now = script.session.next_deadline() or 0.0
    assert script.now == 8.0
    assert script.session.poll(script.now) == []
    assert script.sent().method == "GET_PARAMETER"
    assert script.answer(200) == []
    script.session.teardown(9.0)
    assert script.sent().method == "TEARDOWN"
    assert script.answer(200) == [TornDown()]
    assert script.session.state is State.ENDED


def test_a_refused_keep_alive_falls_back_to_options_and_a_lost_session_ends() -> None:
    script = Script()
    script.play()
    for due, method, status in ((8.0, "GET_PARAMETER", 400), (16.0, "OPTIONS", 500), (24.0, "OPTIONS", 454)):
        script.now = due
        script.session.poll(due)
        assert script.sent().method == method
        events = script.answer(status)
    assert events == [Failed(Fault.REFUSED, "454 x to OPTIONS")]


def test_why_another_node_refuses_is_told() -> None:
    script = Script()
    script.answer(200)
    told = "X-Reason", "camera gate: the password was refused\x1b 东门" + "!" * 400
    (failed,) = script.answer(503, told)
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("503 x to DESCRIBE: camera gate: the password was refused? 东门!!")
    assert len(failed.reason) < 350


def test_without_get_parameter_options_keep_alive() -> None:
    script = Script()
    script.play(public="OPTIONS, PLAY")
    script.session.poll(8.0)
    assert script.sent().method == "OPTIONS"
    assert script.session.poll(13.5) == []  # no answer, but media is what counts


def test_digest_is_answered_once_and_a_second_refusal_is_the_end() -> None:
    script = Script(Login("admin", "secret"))
    script.sent()
    script.answer(200)
    assert script.sent().headers.get("Authorization") is None
    challenge = ("WWW-Authenticate", 'Digest realm="cam", nonce="n1"')
    assert script.answer(401, challenge, ("WWW-Authenticate", 'Basic realm="cam"')) == []
    again = script.sent()
    assert again.method == "DESCRIBE"
    assert 'username="admin"' in (again.headers.get("Authorization") or "")
    assert "secret" not in bytes(again).decode()
    (failed,) = script.answer(401, challenge)
    assert failed == Failed(Fault.WRONG_PASSWORD, "user or password was refused")


def test_a_stale_nonce_is_answered_anew() -> None:
    script = Script(Login("admin", "secret"))
    script.sent()
    script.answer(401, ("WWW-Authenticate", 'Digest realm="cam", nonce="n1"'))
    script.sent()
    assert script.answer(401, ("WWW-Authenticate", 'Digest realm="cam", nonce="n2", stale=true')) == []
    assert 'nonce="n2"' in (script.sent().headers.get("Authorization") or "")


def test_basic_where_nothing_better_is_offered() -> None:
    script = Script(Login("admin", "secret"))
    script.sent()
    script.answer(401, ("WWW-Authenticate", 'Basic realm="cam"'))
    assert script.sent().headers.get("Authorization") == "Basic YWRtaW46c2VjcmV0"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Fault.NOT_RTSP),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Fault.NOT_RTSP),
        (bytes(range(256)), Fault.NOT_RTSP),
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n\x00\x01\x02", Fault.GARBAGE),
        (
            b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\nRTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 3\r\n\r\nsdp",
            Fault.GARBAGE,
        ),
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\nRTSP/1.0 404 Gone\r\nCSeq: 2\r\n\r\n", Fault.NOT_FOUND),
        (b"RTSP/1.0 200 OK\r\n\r\nRTSP/1.0 503 Busy\r\n\r\n", Fault.REFUSED),
    ],
)
def test_who_erred_is_said(data: bytes, fault: Fault) -> None:
    script = Script()
    for at in range(len(data)):
        events = script.session.receive(data[at : at + 1], 0.0)
        if events:
            break
    assert [event.fault for event in events if isinstance(event, Failed)] == [fault]
    assert script.session.receive(b"more", 1.0) == []


def test_silence_and_a_closed_connection() -> None:
    script = Script()
    assert script.session.poll(4.9) == []
    assert script.session.poll(5.0) == [Failed(Fault.TIMED_OUT, "no answer to OPTIONS")]
    script = Script()
    assert script.session.connection_lost() == [Failed(Fault.ENDED, "the connection was closed")]


BOTH = SDP + b"m=audio 0 RTP/AVP 8\r\na=control:t2\r\n"


def test_a_picture_plays_without_the_sound_that_is_refused() -> None:
    script = Script()
    script.answer(200)
    (described,) = script.answer(200, body=BOTH)
    assert isinstance(described, Described)
    video, audio = described.presentation.tracks
    script.session.setup([(video, TCP), (audio, Transport(tcp=True, interleaved=(2, 3)))], 0.0)
    script.sent()
    (ready,) = script.answer(200, ("Session", "77"), ("Transport", "RTP/AVP/TCP;interleaved=0-1"))
    assert isinstance(ready, TrackReady)
    assert script.sent().uri.endswith("t2")
    assert script.answer(500) == [TrackRefused(audio, "500 x to SETUP")]
    assert script.sent().method == "PLAY"
    (playing,) = script.answer(200)
    assert isinstance(playing, Playing)


def test_channels_are_tcp_whatever_the_protocol_is_called() -> None:
    script = Script()
    script.answer(200)
    (described,) = script.answer(200, body=SDP)
    assert isinstance(described, Described)
    script.session.setup([(described.presentation.tracks[0], TCP)], 0.0)
    (ready,) = script.answer(200, ("Session", "77"), ("Transport", "RTP/AVP;unicast;interleaved=0-1"))
    assert isinstance(ready, TrackReady)
    assert (ready.transport.tcp, ready.transport.interleaved) == (True, (0, 1))


def test_a_transport_that_is_not_there() -> None:
    script = Script()
    script.answer(405)
    (described,) = script.answer(200, body=SDP)
    assert isinstance(described, Described)
    script.session.setup([(described.presentation.tracks[0], TCP)], 0.0)
    assert script.answer(461) == [Failed(Fault.TRANSPORT_REFUSED, "461 x to SETUP")]
