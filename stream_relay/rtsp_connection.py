"""One RTSP client of ours: its requests, and the frames on their way to it."""

from __future__ import annotations

import asyncio
import math
import secrets
import socket
import time
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import cast
from urllib.parse import unquote, urlsplit

import structlog

from media.pacer import PacedFlow, PacedFrame, Pacer, Precedence
from media.packet import Kind
from media.rtp_socket import NoPortLeft, RtpSocket
from media.stream import Stream
from media.stream_source import NoSuchStream, StreamUnavailable
from media.transport import Address, TransportEvent
from protocols.rtsp.framing import Framed, FramingLost, RtspFramer, interleaved_header
from protocols.rtsp.headers import Public, Range, RtpInfo, Session, Transport
from protocols.rtsp.message import MalformedRtsp, Request, Response, parse_message
from protocols.sdp import Connection, Origin, SessionDescription
from stream_relay.rtsp_host import RtspHost
from stream_relay.rtsp_outlet import OutletFrame, RtspOutlet
from stream_relay.track_formats import media_of

_PUBLIC = Public(("OPTIONS", "DESCRIBE", "SETUP", "PLAY", "GET_PARAMETER", "SET_PARAMETER", "TEARDOWN"))
_MAX_REQUESTS = 16
_TRACK = "/trackID="
_HIGH_WATER = 64 << 10
_UNSENT_IN_KERNEL = 256 << 10

_log = structlog.get_logger("rtsp")


@dataclass(slots=True)
class _Line:
    """One track that was set up: where its frames go, and whether they wait for a key frame."""

    outlet: RtspOutlet
    url: str
    channel: int | None
    socket: RtpSocket | None
    awaits_keyframe: bool = False


class _RtcpListener:
    """What comes back from a UDP player: a sign of life."""

    def __init__(self, connection: RtspConnection) -> None:
        self._connection = connection

    def rtp_received(self, data: bytes, source: Address, arrival: float) -> None:
        """Some players punch a hole with an RTP packet of their own."""

    def rtcp_received(self, data: bytes, source: Address, arrival: float) -> None:
        self._connection.heard = arrival

    def transport_event(self, event: TransportEvent) -> None:
        """Where it comes from does not matter."""


class RtspConnection(asyncio.Protocol):
    """Made by the server for each connection. Requests are answered in order by one task; frames are written
    as they come while the socket takes them, else queued within the server's limits."""

    def __init__(self, server: RtspHost) -> None:
        self._server = server
        self._framer = RtspFramer()
        self._requests: deque[Request | Response] = deque()
        self._wake = asyncio.Event()
        self._queue: deque[tuple[bytes, float]] = deque()
        self._queued_bytes = 0
        self._pacer: Pacer[PacedFlow] = Pacer(server.limits.udp_bitrate)
        self._paused_since: float | None = None
        self._behind_since: float | None = None
        self._last_drop = 0.0
        self._session = secrets.token_hex(8)
        self._user: str | None = None
        self._streams: tuple[Stream, ...] = ()
        self._holds = AsyncExitStack()
        self._lines: dict[RtspOutlet, _Line] = {}
        self._playing = False
        self._finished = False
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        """The transport's, once more."""
        self._task: asyncio.Task[None] | None = None
        self.opened: tuple[str, str | None] | None = None
        """Path and user of what is held."""
        self.address = ""
        self.heard = time.monotonic()
        self.dropped = 0
        """Frames this client was too slow for."""

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        # Else the kernel takes megabytes for a player that reads nothing, and we learn of it late.
        tcp = transport.get_extra_info("socket")
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unknown"
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_IN_KERNEL)
        self._task = self._server.connected(self)

    def data_received(self, data: bytes) -> None:
        self.heard = time.monotonic()
        for event in self._framer.feed(data):
            match event:
                case Framed():
                    self._take_message(event.data)
                case FramingLost():
                    self._requests.append(Response.of(400, ("Connection", "close")))
                    self._finished = True
        if len(self._requests) > _MAX_REQUESTS:
            self.disconnect("more requests than answers")
        self._wake.set()

    def pause_writing(self) -> None:
        self._paused_since = time.monotonic()
        self._want_to_be_asked()

    def resume_writing(self) -> None:
        self._paused_since = None
        while self._queue and self._paused_since is None:
            data, _ = self._queue.popleft()
            self._queued_bytes -= len(data)
            self._write(data)
        for line in self._lines.values():
            self._send_straight(line)

    def connection_lost(self, error: Exception | None) -> None:
        self._finished = True
        self._want_to_be_asked()
        if self._socket is not None:
            self._socket.close()
        if self._task is not None:
            self._task.cancel()

    # -- OutletPlayer

    def take_frame(self, outlet: RtspOutlet, frame: OutletFrame) -> None:
        line = self._lines[outlet]
        if line.awaits_keyframe and not frame.keyframe:
            self.dropped += 1
            return
        if line.socket is not None:
            self._send_datagrams(line.socket, outlet.stream.format.kind, frame)
            return
        assert line.channel is not None, "a line without a socket has a channel"
        now = time.monotonic()
        if self._paused_since is not None and self._is_full(frame, now):
            self._fall_behind(now)
            if not frame.keyframe or outlet.stream.format.kind is not Kind.VIDEO:
                return
        line.awaits_keyframe = False
        data = frame.interleaved(line.channel)
        if self._paused_since is None:
            self._write(data)
            self._send_straight(line)
        else:
            self._queue.append((data, now))
            self._queued_bytes += len(data)

    def take_rest(self, outlet: RtspOutlet, rest: bytes) -> None:
        self._want_to_be_asked()
        self._write(rest)

    def take_report(self, outlet: RtspOutlet, datagram: bytes) -> None:
        line = self._lines[outlet]
        if line.socket is not None:
            line.socket.send_rtcp(datagram)
        elif line.channel is not None and self._paused_since is None:
            self._write(interleaved_header(line.channel + 1, len(datagram)) + datagram)

    def outlet_ended(self, outlet: RtspOutlet) -> None:
        """The stream is over or changes its format: the player learns it by the connection's end."""
        self._want_to_be_asked()
        self._finished = True
        self._wake.set()

    # -- the server's

    async def serve(self) -> None:
        """Answers requests until the connection ends, then gives back all it held."""
        try:
            while not (self._finished and not self._requests):
                while self._requests:
                    await self._answer(self._requests.popleft())
                self._wake.clear()
                if not self._finished:
                    await self._wake.wait()
            await self._leave()
        finally:
            self._release()
            if self._transport is not None:
                self._transport.close()
            await self._holds.aclose()

    async def _leave(self) -> None:
        """What was written last may be under way, but not for ever: `connection_lost` ends the wait."""
        self._release()
        await self._holds.aclose()
        if self._transport is not None:
            self._transport.close()
            await asyncio.sleep(self._server.limits.stalled_after)
            self._transport.abort()

    def check(self, now: float) -> None:
        """Called every now and then: ends what has stalled or gone silent."""
        limits = self._server.limits
        if self._paused_since is not None and now - self._paused_since > limits.stalled_after:
            self.disconnect("the client takes nothing")
        elif self._behind_since is not None and now - self._behind_since > limits.stalled_after:
            self.disconnect("the client is too slow")
        elif self._behind_since is not None and now - self._last_drop > limits.stalled_after / 2:
            self._behind_since = None
        silent_may_be = self._playing and all(line.socket is None for line in self._lines.values())
        if not silent_may_be and now - self.heard > limits.session_timeout:
            self.disconnect("nothing was heard of the client")

    def disconnect(self, reason: str) -> None:
        """At once, whatever waits to be written."""
        _log.info("rtsp client dropped", reason=reason, dropped=self.dropped)
        self._server.disconnected += 1
        self._finished = True
        self._want_to_be_asked()
        if self._transport is not None:
            self._transport.abort()

    # -- frames

    def _send_straight(self, line: _Line) -> None:
        """While the socket takes everything there is nothing to decide: the outlet sends, past the transport,
        which must hold nothing then."""
        ready = self._playing and not self._finished and self._paused_since is None
        if not ready or line.awaits_keyframe or line.channel is None or self._transport is None:
            return
        if self._transport.get_write_buffer_size() or self._transport.is_closing():
            return
        if self._socket is None:
            tcp = self._transport.get_extra_info("socket")
            try:
                self._socket = socket.fromfd(tcp.fileno(), tcp.family, tcp.type)
            except OSError:  # no descriptor is left: it goes on being asked
                return
            self._socket.setblocking(False)
        line.outlet.send_straight(self, line.channel, self._socket.send)

    def _want_to_be_asked(self) -> None:
        for outlet in self._lines:
            outlet.ask(self)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            if self._transport.get_write_buffer_size():  # and nothing may be sent past that
                self._want_to_be_asked()

    def _send_datagrams(self, port: RtpSocket, kind: Kind, frame: OutletFrame) -> None:
        """Paced: a group of pictures at once would be more than a player's socket holds. The pacer itself
        waits for a key frame where it had to drop."""
        precedence = Precedence.PICTURE if kind is Kind.VIDEO else Precedence.SOUND
        paced = PacedFrame[PacedFlow](port, frame.packets, port.overhead, precedence, frame.keyframe)
        if not self._server.clock.send(self._pacer, paced):
            self.dropped += 1
            self._server.dropped += 1

    def _is_full(self, frame: OutletFrame, now: float) -> bool:
        limits = self._server.limits
        too_old = bool(self._queue) and now - self._queue[0][1] > limits.queue_seconds
        return too_old or self._queued_bytes + frame.size > limits.queue_bytes

    def _fall_behind(self, now: float) -> None:
        """Everything that waits goes; pictures begin again with a key frame."""
        self.dropped += len(self._queue) + 1
        self._server.dropped += len(self._queue) + 1
        self._queue.clear()
        self._queued_bytes = 0
        self._last_drop = now
        if self._behind_since is None:
            self._behind_since = now
        for line in self._lines.values():
            line.awaits_keyframe = line.outlet.stream.format.kind is Kind.VIDEO

    def _release(self) -> None:
        for line in self._lines.values():
            self._server.leave(line.outlet, self)
            if line.socket is not None:
                self._pacer.forget(line.socket)
                line.socket.close()
        self._server.clock.forget(self._pacer)
        self._lines.clear()
        self._queue.clear()
        self._queued_bytes = 0

    # -- requests

    def _take_message(self, data: bytes) -> None:
        try:
            message = parse_message(data)
        except MalformedRtsp:
            message = Response.of(400)
            self._requests.append(message)
            return
        if isinstance(message, Request):
            self._requests.append(message)

    async def _answer(self, request: Request | Response) -> None:
        if isinstance(request, Response):  # made for a request that could not be read
            self._write(bytes(request))
            return
        response = await self._respond(request)
        fields = [("CSeq", request.headers.get("CSeq") or "0"), ("Server", "Anshi"), *response.headers.fields]
        if self._lines and request.method != "OPTIONS":
            fields.append(("Session", str(Session(self._session, self._server.limits.session_timeout_said))))
        self._write(bytes(Response.of(response.status, *fields, body=response.body)))
        if request.method == "PLAY" and response.status == 200:
            self._begin()
        elif request.method == "TEARDOWN" and response.status == 200:
            self._release()
            self._finished = True

    async def _respond(self, request: Request) -> Response:
        if not request.version.startswith("RTSP/1."):
            return Response.of(505)
        if request.headers.get("Require") is not None:
            return Response.of(551, ("Unsupported", request.headers.get("Require") or ""))
        if request.method == "OPTIONS":
            return Response.of(200, ("Public", str(_PUBLIC)))
        admitted = self._server.admit(request, self._socket_address("peername"))
        if admitted.wait:
            return Response.of(503, ("Retry-After", str(math.ceil(admitted.wait))))
        if admitted.challenges:
            return Response.of(401, *(("WWW-Authenticate", challenge) for challenge in admitted.challenges))
        self._user = admitted.user
        given = request.headers.get("Session")
        if given is not None and given.partition(";")[0].strip() != self._session:
            return Response.of(454)
        match request.method:
            case "DESCRIBE":
                return await self._describe(request)
            case "SETUP":
                return await self._set_up(request)
            case "PLAY":
                return self._play()
            case "GET_PARAMETER" | "SET_PARAMETER" | "TEARDOWN":
                return Response.of(200)
        return Response.of(501, ("Public", str(_PUBLIC)))

    async def _open(self, uri: str) -> tuple[Stream, ...] | Response:
        path = unquote(urlsplit(uri.partition(_TRACK)[0]).path.strip("/"))
        if self.opened == (path, self._user):
            return self._streams
        if self._lines:
            return Response.of(459)
        await self._holds.aclose()
        self._holds, self.opened, self._streams = AsyncExitStack(), None, ()
        try:
            source = self._server.catalogue.open(path, self._user)
            streams = tuple(await self._holds.enter_async_context(source))
        except NoSuchStream:
            return Response.of(404)
        except StreamUnavailable as error:
            return Response.of(503, ("X-Reason", " ".join(str(error).split())))
        self.opened, self._streams = (path, self._user), streams
        return streams

    async def _describe(self, request: Request) -> Response:
        streams = await self._open(request.uri)
        if isinstance(streams, Response):
            return streams
        host = self._socket_address("sockname")
        description = SessionDescription(
            origin=Origin("-", str(secrets.randbits(31)), 1, host),
            media=tuple(media_of(stream.format, n, f"{_TRACK[1:]}{n}") for n, stream in enumerate(streams)),
            name="Anshi",
            connection=Connection("::" if ":" in host else "0.0.0.0"),
            attributes=(("control", "*"), ("range", "npt=now-")),
        )
        base = request.uri if request.uri.endswith("/") else request.uri + "/"
        return Response.of(
            200, ("Content-Base", base), ("Content-Type", "application/sdp"), body=bytes(description)
        )

    async def _set_up(self, request: Request) -> Response:
        streams = await self._open(request.uri)
        if isinstance(streams, Response):
            return streams
        word = request.uri.partition(_TRACK)[2].strip("/")
        number = (
            int(word) if word.isdigit() and len(word) < 3 else 0 if not word and len(streams) == 1 else -1
        )
        if not 0 <= number < len(streams):
            return Response.of(404)
        if self._playing or any(line.outlet.stream is streams[number] for line in self._lines.values()):
            return Response.of(455)
        for wanted in Transport.parse_all(request.headers.get("Transport") or ""):
            if wanted.unicast and (wanted.tcp or wanted.client_port is not None):
                return self._line(streams[number], number, request.uri, wanted)
        return Response.of(461)

    def _line(self, stream: Stream, number: int, url: str, wanted: Transport) -> Response:
        if stream.closed:
            return Response.of(503)
        rtp_socket: RtpSocket | None = None
        channel: int | None = None
        if wanted.tcp:
            channel = wanted.interleaved[0] if wanted.interleaved else 2 * number
            if channel > 254 or any(line.channel == channel for line in self._lines.values()):
                return Response.of(461)
        else:
            assert wanted.client_port is not None, "asked for by the caller"
            rtp, rtcp = wanted.client_port
            try:
                rtp_socket = RtpSocket.open(
                    _RtcpListener(self),
                    bind=self._socket_address("sockname"),
                    ports=self._server.limits.ports,
                    dscp=self._server.limits.dscp,
                )
            except NoPortLeft:
                return Response.of(503)
            # Only ever to whoever asked: a "destination" would aim us at others (RFC 2326 16).
            peer = self._socket_address("peername")
            rtp_socket.set_remote((peer, rtp), (peer, rtcp))
        outlet = self._server.outlet(stream, number, tcp=wanted.tcp)
        self._lines[outlet] = _Line(outlet, url, channel, rtp_socket)
        agreed = Transport(
            tcp=wanted.tcp,
            interleaved=None if channel is None else (channel, channel + 1),
            client_port=wanted.client_port if rtp_socket else None,
            server_port=(rtp_socket.ports.rtp, rtp_socket.ports.rtcp) if rtp_socket else None,
            ssrc=outlet.ssrc,
        )
        return Response.of(200, ("Transport", str(agreed)))

    def _play(self) -> Response:
        if not self._lines:
            return Response.of(455)
        info = ", ".join(
            str(RtpInfo(line.url, *(line.outlet.first_packet or (None, None))))
            for line in self._lines.values()
        )
        return Response.of(200, ("Range", str(Range(None))), ("RTP-Info", info))

    def _begin(self) -> None:
        """Behind the answer to PLAY: the current group of pictures, then what comes."""
        if not self._playing:
            self._playing = True
            for outlet in tuple(self._lines):
                outlet.join(self)

    def _socket_address(self, name: str) -> str:
        assert self._transport is not None, "asked only while connected"
        return str(self._transport.get_extra_info(name)[0])
