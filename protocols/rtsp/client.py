"""A client's session (RFC 2326 A.1): OPTIONS, DESCRIBE, SETUP for each track, PLAY, keep-alive, TEARDOWN.

    session = ClientSession("rtsp://192.0.2.7/ch1", login, new_cnonce)
    session.start(now)
    connection.write(session.take_output())
    for event in session.receive(data, now): ...      # Described: choose tracks, session.setup([...], now)
    for event in session.poll(now): ...               # at `next_deadline()` at the latest
    session.teardown(now)

One request is under way at a time, so an answer without CSeq still has its question. After Failed nothing
more happens. Times are monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto

from protocols.rtsp.authentication import ClientAuthentication
from protocols.rtsp.description import Presentation, Track, base_url
from protocols.rtsp.framing import Framed, FramingLost, Interleaved, RtspFramer
from protocols.rtsp.headers import MalformedHeader, Public, Range, RtpInfo, Session, Transport
from protocols.rtsp.message import MalformedRtsp, Message, Request, Response, parse_message
from protocols.sdp import SdpError
from protocols.sip.digest import Login
from protocols.sip.grammar import excerpt
from protocols.sip.message import Headers

RESPONSE_TIMEOUT = 5.0
_KEEP_ALIVE_SHARE = 0.4
_LONGEST_REASON = 300
_NO_SUCH_SESSION = 454


class Fault(StrEnum):
    """Why a session failed; all but the first are the server's doing."""

    WRONG_PASSWORD = "wrong password"
    NOT_FOUND = "not found"
    REFUSED = "refused"
    TRANSPORT_REFUSED = "transport refused"
    TIMED_OUT = "timed out"
    NOT_RTSP = "not RTSP"
    GARBAGE = "garbage"
    ENDED = "ended"


class State(Enum):
    """Which answer is awaited, or what is."""

    NEW = auto()
    OPTIONS = auto()
    DESCRIBE = auto()
    CHOOSING = auto()
    SETUP = auto()
    PLAY = auto()
    PLAYING = auto()
    TEARDOWN = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Described:
    """The owner chooses: `setup` is called next."""

    presentation: Presentation


@dataclass(frozen=True, slots=True)
class TrackReady:
    """SETUP of this track succeeded with this transport."""

    track: Track
    transport: Transport


@dataclass(frozen=True, slots=True)
class TrackRefused:
    """SETUP of this track failed, and others are set up: it plays without."""

    track: Track
    reason: str


@dataclass(frozen=True, slots=True)
class Playing:
    """Media comes, or has come already."""

    info: tuple[RtpInfo, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The session is over."""

    fault: Fault
    reason: str


@dataclass(frozen=True, slots=True)
class TornDown:
    """TEARDOWN was answered."""


ClientEvent = Described | TrackReady | TrackRefused | Playing | Failed | TornDown | Interleaved


@dataclass(frozen=True, slots=True)
class _Pending:
    request: Request
    sent: float
    authorized: bool


class ClientSession:
    """See the module's head. `login` None: a 401 is the end."""

    def __init__(
        self,
        url: str,
        login: Login | None,
        new_cnonce: Callable[[], str],
        *,
        user_agent: str = "Anshi",
        response_timeout: float = RESPONSE_TIMEOUT,
    ) -> None:
        self.state = State.NEW
        self._url = url
        self._authentication = ClientAuthentication(login, new_cnonce)
        self._user_agent = user_agent
        self._response_timeout = response_timeout
        self._framer = RtspFramer()
        self._output = bytearray()
        self._events: list[ClientEvent] = []
        self._cseq = 0
        self._pending: _Pending | None = None
        self._public = Public()
        self._keep_alive_method: str | None = None
        self._keep_alive_due: float | None = None
        self._session: Session | None = None
        self._control = url
        self._to_set_up: deque[tuple[Track, Transport]] = deque()

    @property
    def session(self) -> Session | None:
        """The server's session, once the first SETUP was answered."""
        return self._session

    def start(self, now: float) -> None:
        self._enter(State.OPTIONS, "OPTIONS", self._url, now)

    def setup(self, choices: Sequence[tuple[Track, Transport]], now: float) -> None:
        """Sets these tracks up, then plays. Raises ValueError without any, or before Described."""
        if self.state is not State.CHOOSING or not choices:
            raise ValueError("tracks are set up once, after they were described")
        self._to_set_up.extend(choices)
        self._set_next_up(now)

    def teardown(self, now: float) -> None:
        """Ends the session politely; without one there is nothing to end."""
        if self._session is None or self.state in (State.TEARDOWN, State.ENDED):
            self.state = State.ENDED
            return
        self._enter(State.TEARDOWN, "TEARDOWN", self._control, now)

    def take_output(self) -> bytes:
        """What to send now."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def receive(self, data: bytes, now: float) -> list[ClientEvent]:
        """Takes bytes of the connection. Never raises on what a peer sends."""
        for event in self._framer.feed(data):
            match event:
                case Interleaved():
                    self._events.append(event)
                case FramingLost() if self.state is not State.ENDED:
                    # A server that once spoke RTSP sends rubbish; one that never did is none.
                    fault = Fault.NOT_RTSP if event.foreign and self._heard_nothing else Fault.GARBAGE
                    self._fail(fault, event.reason)
                case Framed() if self.state is not State.ENDED:
                    self._take(event.data, now)
        return self._take_events()

    def poll(self, now: float) -> list[ClientEvent]:
        """Time-outs and keep-alive."""
        if self._pending is not None and now >= self._pending.sent + self._response_timeout:
            if self.state is State.PLAYING:
                self._pending = None  # media that comes is a better sign of life than this answer
            else:
                self._fail(Fault.TIMED_OUT, f"no answer to {self._pending.request.method}")
        if self._keep_alive_due is not None and now >= self._keep_alive_due and self.state is State.PLAYING:
            self._arm_keep_alive(now)
            if self._pending is None:
                self._send(self._keep_alive_method or "OPTIONS", self._control, now)
        return self._take_events()

    def next_deadline(self) -> float | None:
        """When `poll` has something to do."""
        deadlines = [] if self._keep_alive_due is None else [self._keep_alive_due]
        if self._pending is not None:
            deadlines.append(self._pending.sent + self._response_timeout)
        return min(deadlines, default=None)

    def connection_lost(self) -> list[ClientEvent]:
        """The other end closed the connection."""
        if self.state is State.TEARDOWN:
            self.state = State.ENDED
            self._events.append(TornDown())
        elif self.state is not State.ENDED:
            self._fail(Fault.ENDED, "the connection was closed")
        return self._take_events()

    # -- requests

    @property
    def _heard_nothing(self) -> bool:
        return self.state is State.OPTIONS and self._pending is not None and not self._pending.authorized

    def _enter(self, state: State, method: str, uri: str, now: float, *fields: tuple[str, str]) -> None:
        self.state = state
        self._send(method, uri, now, *fields)

    def _send(self, method: str, uri: str, now: float, *fields: tuple[str, str]) -> None:
        head = [("User-Agent", self._user_agent)]
        if self._session is not None:
            head.append(("Session", self._session.id))
        self._transmit(Request(method, uri, Headers((*head, *fields))), now, authorized=False)

    def _transmit(self, request: Request, now: float, *, authorized: bool) -> None:
        self._cseq += 1
        head = [("CSeq", str(self._cseq))]
        authorization = self._authentication.authorization(request.method, request.uri)
        if authorization is not None:
            head.append(("Authorization", authorization))
        self._pending = _Pending(request, now, authorized)
        self._output += bytes(
            Request(request.method, request.uri, Headers((*head, *request.headers.fields)), request.body)
        )

    def _set_next_up(self, now: float) -> None:
        if self._to_set_up:
            track, transport = self._to_set_up[0]
            self._enter(State.SETUP, "SETUP", track.control, now, ("Transport", str(transport)))
        else:
            self._enter(State.PLAY, "PLAY", self._control, now, ("Range", str(Range())))

    # -- answers

    def _take(self, data: bytes, now: float) -> None:
        try:
            message: Message = parse_message(data)
        except MalformedRtsp as error:
            fault = Fault.NOT_RTSP if error.foreign or self._heard_nothing else Fault.GARBAGE
            self._fail(fault, str(error))
            return
        if isinstance(message, Request):
            self._answer(message)
            return
        pending = self._pending
        if pending is None or message.status < 200 or message.cseq not in (None, self._cseq):
            return
        self._pending = None
        if message.status == 401:
            self._authenticate(pending, message, now)
        elif message.status < 300:
            _ANSWERED[self.state](self, message, now)
        else:
            self._refused(pending, message, now)

    def _answer(self, request: Request) -> None:
        """Requests of a server (RFC 2326 10): only OPTIONS means something to us."""
        fields = [("CSeq", request.headers.get("CSeq") or "0")]
        status = 200 if request.method == "OPTIONS" else 501
        self._output += bytes(Response.of(status, *fields))
        if request.method in ("TEARDOWN", "REDIRECT"):
            self._fail(Fault.ENDED, f"the server said {request.method}")

    def _authenticate(self, pending: _Pending, response: Response, now: float) -> None:
        challenges = response.headers.all("WWW-Authenticate")
        stale = any("stale=true" in value.lower().replace('"', "") for value in challenges)
        carried = pending.authorized and not stale
        self._authentication.take(challenges)
        if not self._authentication.has_login:
            self._fail(Fault.WRONG_PASSWORD, "a user and password are asked for, and none is set")
        elif carried:
            self._fail(Fault.WRONG_PASSWORD, "user or password was refused")
        elif self._authentication.authorization(pending.request.method, pending.request.uri) is None:
            self._fail(Fault.WRONG_PASSWORD, "the server offers neither digest nor basic authentication")
        else:
            # One try a request: a camera locks an account after a few wrong passwords.
            self._transmit(pending.request, now, authorized=True)

    def _refused(self, pending: _Pending, response: Response, now: float) -> None:
        said = f"{response.status} {response.reason} to {pending.request.method}"
        match self.state:
            case State.OPTIONS:
                self._options_answered(response, now)
            case State.PLAYING if response.status != _NO_SUCH_SESSION:
                self._keep_alive_method = "OPTIONS"  # whether it lives, media tell
            case State.SETUP if self._session is not None:
                self._without(said, now)
            case State.TEARDOWN:
                self._torn_down(response, now)
            case _ if response.status == 404:
                self._fail(Fault.NOT_FOUND, said)
            case _ if response.status == 461:
                self._fail(Fault.TRANSPORT_REFUSED, said)
            case _ if 300 <= response.status < 400:
                self._fail(
                    Fault.REFUSED, f"{said}: it lives at {excerpt(response.headers.get('Location') or '')}"
                )
            case _:
                told = _printable(response.headers.get("X-Reason") or "")  # as nodes of ours say why
                self._fail(Fault.REFUSED, f"{said}: {told}" if told else said)

    def _options_answered(self, response: Response, now: float) -> None:
        self._public = Public.parse(response.headers.all("Public"))
        self._enter(State.DESCRIBE, "DESCRIBE", self._url, now, ("Accept", "application/sdp"))

    def _described(self, response: Response, now: float) -> None:
        headers = response.headers
        base = base_url(self._url, headers.get("Content-Base"), headers.get("Content-Location"))
        try:
            presentation = Presentation.parse(response.body, base)
        except SdpError as error:
            self._fail(Fault.GARBAGE, f"the description cannot be read: {error}")
            return
        self._control = presentation.control
        self.state = State.CHOOSING
        self._events.append(Described(presentation))

    def _set_up(self, response: Response, now: float) -> None:
        track, asked = self._to_set_up.popleft()
        try:
            if self._session is None:
                self._session = Session.parse(response.headers.get("Session") or "")
            agreed = Transport.parse(response.headers.get("Transport") or str(asked))
        except MalformedHeader as error:
            self._fail(Fault.GARBAGE, str(error))
            return
        if asked.tcp and agreed.interleaved is not None:
            agreed = replace(agreed, tcp=True)  # some say RTP/AVP, and the channels all the same
        if agreed.tcp != asked.tcp:
            self._fail(Fault.TRANSPORT_REFUSED, f"another transport than asked for: {agreed}")
            return
        self._events.append(TrackReady(track, agreed))
        self._set_next_up(now)

    def _without(self, said: str, now: float) -> None:
        """One of several tracks is refused: sound, as a rule, and a picture without sound is worth having."""
        track, _asked = self._to_set_up.popleft()
        self._events.append(TrackRefused(track, said))
        self._set_next_up(now)

    def _play_answered(self, response: Response, now: float) -> None:
        self.state = State.PLAYING
        self._keep_alive_method = "GET_PARAMETER" if "GET_PARAMETER" in self._public else "OPTIONS"
        self._arm_keep_alive(now)
        self._events.append(Playing(RtpInfo.parse_all(response.headers.get("RTP-Info") or "")))

    def _kept_alive(self, response: Response, now: float) -> None:
        """Nothing to do: the session lives."""

    def _torn_down(self, response: Response, now: float) -> None:
        self.state = State.ENDED
        self._events.append(TornDown())

    def _arm_keep_alive(self, now: float) -> None:
        assert self._session is not None, "only a session that was set up is kept alive"
        self._keep_alive_due = now + max(1.0, _KEEP_ALIVE_SHARE * self._session.timeout)

    def _fail(self, fault: Fault, reason: str) -> None:
        self.state = State.ENDED
        self._pending = self._keep_alive_due = None
        self._events.append(Failed(fault, reason))

    def _take_events(self) -> list[ClientEvent]:
        events, self._events = self._events, []
        return events


_ANSWERED: Mapping[State, Callable[[ClientSession, Response, float], None]] = {
    State.OPTIONS: ClientSession._options_answered,
    State.DESCRIBE: ClientSession._described,
    State.SETUP: ClientSession._set_up,
    State.PLAY: ClientSession._play_answered,
    State.PLAYING: ClientSession._kept_alive,
    State.TEARDOWN: ClientSession._torn_down,
}
"""What a successful answer leads to, by what was asked for."""


def _printable(text: str) -> str:
    """What a server says to people, in one line of bounded length."""
    return "".join(character if character.isprintable() else "?" for character in text[:_LONGEST_REASON])
