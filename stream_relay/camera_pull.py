"""One RTSP session with one camera: connection, transports, packets; until it fails or is cancelled."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import structlog

from media.packet import Kind, Packet
from media.rtp_receiver import ReceiverSettings, ReceiverStats, RtpReceiver
from media.rtp_socket import NoPortLeft, PortRange, RtpSocket
from media.transport import Address as MediaAddress
from media.transport import TransportEvent
from protocols.payloads import Frame
from protocols.rtp.packet import MalformedRtp
from protocols.rtp.rtcp import parse_compound
from protocols.rtsp.client import (
    ClientEvent,
    ClientSession,
    Described,
    Failed,
    Playing,
    TrackReady,
    TrackRefused,
)
from protocols.rtsp.description import Address, Presentation, Track
from protocols.rtsp.framing import Interleaved
from protocols.rtsp.headers import Transport
from protocols.sip.digest import Login
from stream_relay.track_formats import depacketizer_for, is_usable, looks_like_h265

_log = structlog.get_logger("camera")
_READ_BYTES = 256 << 10
_TICK = 0.05
_UNSENT_BYTES = 64 << 10
_PORTS = PortRange(40_000, 49_999)
_FOREIGN_PACKETS = 3
"""RTP packets of another codec than was described, in a row, that say the camera has changed it."""


class Cause(StrEnum):
    """Why a camera is not seen; the words of `protocols.rtsp.client.Fault` and those below RTSP."""

    CONNECTION_REFUSED = "connection refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed out"
    WRONG_PASSWORD = "wrong password"
    NOT_FOUND = "not found"
    REFUSED = "refused"
    TRANSPORT_REFUSED = "transport refused"
    NOT_RTSP = "not RTSP"
    GARBAGE = "garbage"
    NO_USABLE_TRACK = "no usable track"
    CODEC_CHANGED = "codec changed"
    """In the middle of a session; the next try finds out to what."""
    SILENT = "silent"
    ENDED = "ended"
    WRONG_ADDRESS = "wrong address"
    NO_PORT = "no port of ours"
    """The only one that is not the camera's or the network's doing."""


class CameraFault(Exception):
    """A camera cannot be pulled, and why."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(f"{cause.value}: {reason}")
        self.cause = cause
        self.reason = reason


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """How to reach a camera. User and password here win over those in the address.

    Times in seconds: `connect_timeout` for TCP, `response_timeout` for each answer, `silence` without
    pictures, `pictureless` with some, but before any whole key frame. `ports` are for UDP.
    """

    url: str
    username: str | None = None
    password: str = field(default="", repr=False)
    udp: bool = False
    ports: PortRange = _PORTS
    connect_timeout: float = 5.0
    response_timeout: float = 5.0
    silence: float = 10.0
    pictureless: float = 30.0


class PullOwner(Protocol):
    """Who gets what a pull brings; called on the event loop's thread."""

    def pull_started(self, tracks: Sequence[Track]) -> None:
        """PLAY was answered for these tracks."""
        ...

    def packet_pulled(self, track: Track, packet: Packet) -> None: ...


class _TrackPull:
    """One track's RTP, from wherever it comes, to packets of media."""

    def __init__(self, track: Track, owner: PullOwner) -> None:
        self.track = track
        self.channel: int | None = None
        self.socket: RtpSocket | None = None
        self.last_media: float | None = None
        self.foreign = ""
        """What came instead of the codec described, as soon as that is sure."""
        self.frames = self.pictures = 0
        self._foreign_packets = 0
        self._owner = owner
        self.kind = Kind.VIDEO if track.media == "video" else Kind.AUDIO
        self.receiver = RtpReceiver(
            ReceiverSettings(
                ssrc=secrets.randbits(32),
                cname="anshi",
                clock_rate=track.clock_rate,
                formats={track.payload_type: depacketizer_for(track)},
            )
        )

    # -- MediaReceiver

    def rtp_received(self, data: bytes, source: MediaAddress | None, arrival: float) -> None:
        self.last_media = arrival
        stranger = self._stranger(data)
        if not stranger:
            self._foreign_packets = 0
            self._publish(self.receiver.receive_rtp(data, arrival), arrival)
            return
        self._foreign_packets += 1
        if self._foreign_packets >= _FOREIGN_PACKETS:
            self.foreign = stranger

    def rtcp_received(self, data: bytes, source: MediaAddress | None, arrival: float) -> None:
        try:
            self.receiver.receive_rtcp(parse_compound(data), arrival)
        except MalformedRtp:
            return  # cameras' reports are often broken, and their pictures sound

    def transport_event(self, event: TransportEvent) -> None:
        """Where media comes from is of no interest to a pull."""

    def tick(self, now: float) -> list[bytes]:
        """Publishes what waited long enough; the RTCP due over TCP, for UDP it is sent here."""
        self._publish(self.receiver.release(now), now)
        self.receiver.take_events()
        datagrams = self.receiver.poll(now)
        if self.socket is None:
            return datagrams
        for datagram in datagrams:
            self.socket.send_rtcp(datagram)
        return []

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()

    def _stranger(self, data: bytes) -> str:
        """What a picture's packet is if not of the described format; "" when it is, or cannot be told.

        Sound is let be: comfort noise may come in between. Payload types 64 to 95 are RTCP (RFC 5761 4).
        """
        if self.kind is not Kind.VIDEO or len(data) < 12 or data[0] >> 6 != 2:
            return ""
        number = data[1] & 0x7F
        if number != self.track.payload_type and not 64 <= number <= 95:
            return f"payload type {number}"
        start = 12 + 4 * (data[0] & 0x0F)
        if self.track.codec == "H264" and not data[0] & 0x10 and looks_like_h265(data[start : start + 2]):
            return "H.265"
        return ""

    def _publish(self, frames: Sequence[Frame], arrival: float) -> None:
        for frame in frames:
            self.frames += 1
            # Cameras with open groups of pictures send one IDR picture and no more: their I pictures with a
            # recovery point are where decoding can start (H.264 D.2.8), but for what is shown before them.
            starts = frame.keyframe or (frame.recovery_point == 0 and not frame.damaged)
            self.pictures += starts and not frame.damaged
            packet = Packet(
                frame.data,
                frame.timestamp,
                arrival,
                starts,
                frame.damaged,
                self.receiver.ntp_at(frame.timestamp),
            )
            self._owner.packet_pulled(self.track, packet)


class CameraPull:
    """`run` once. `owner` is told what comes."""

    def __init__(self, settings: CameraSettings, owner: PullOwner) -> None:
        self._settings = settings
        self._owner = owner
        self._address = Address.parse(settings.url)
        username = settings.username if settings.username is not None else self._address.username
        password = settings.password if settings.username is not None else self._address.password
        self._session = ClientSession(
            self._address.url,
            None if username is None else Login(username, password),
            lambda: secrets.token_hex(8),
            response_timeout=settings.response_timeout,
        )
        self._tracks: list[_TrackPull] = []
        self._playing_since: float | None = None
        self._peer = self._local = ""

    def stats(self, now: float) -> dict[str, ReceiverStats]:
        """By kind of media."""
        return {pull.track.media: pull.receiver.stats(now) for pull in self._tracks}

    def bitrate(self, now: float) -> int:
        """Of all tracks over the last second, bit/s."""
        return sum(pull.receiver.stats(now).bitrate for pull in self._tracks)

    async def run(self) -> None:
        """Pulls until cancelled. Raises CameraFault."""
        reader, writer = await self._connect()
        try:
            self._peer = writer.get_extra_info("peername")[0]
            self._local = writer.get_extra_info("sockname")[0]
            self._session.start(time.monotonic())
            await self._converse(reader, writer)
        finally:
            self._session.teardown(time.monotonic())
            writer.write(self._session.take_output())
            writer.close()
            for pull in self._tracks:
                pull.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._address.host, self._address.port
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                return await asyncio.open_connection(host, port)
        except TimeoutError:
            raise CameraFault(Cause.TIMED_OUT, f"no connection to {host}:{port}") from None
        except ConnectionRefusedError:
            raise CameraFault(Cause.CONNECTION_REFUSED, f"nothing listens on {host}:{port}") from None
        except socket.gaierror as error:
            raise CameraFault(Cause.UNREACHABLE, f"{host} has no address: {error.strerror}") from None
        except UnicodeError:
            raise CameraFault(Cause.WRONG_ADDRESS, f"{host} is no name that can be looked up") from None
        except OSError as error:
            raise CameraFault(Cause.UNREACHABLE, f"{host}:{port}: {error.strerror or error}") from None

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session, ticked = self._session, 0.0
        while True:
            output = session.take_output()
            if output:
                writer.write(output)
            data = await _read(reader)
            now = time.monotonic()
            events: list[ClientEvent] = []
            if data == b"":
                events = session.connection_lost()
            elif data is not None:
                events = session.receive(data, now)
            for event in [*events, *session.poll(now)]:
                self._take(event, now)
            if now - ticked >= _TICK:
                ticked = now
                self._tick(now, writer)

    def _take(self, event: ClientEvent, now: float) -> None:
        match event:
            case Interleaved(channel, data):
                self._take_interleaved(channel, data, now)
            case Described(presentation):
                self._session.setup(self._choose(presentation), now)
            case TrackReady(track, transport):
                self._ready(track, transport)
            case TrackRefused(track, reason):
                _log.warning("track refused", address=self._address.host, track=track.media, reason=reason)
                self._drop(track)
            case Playing():
                self._playing_since = now
                self._owner.pull_started([pull.track for pull in self._tracks])
            case Failed(fault, reason):
                raise CameraFault(Cause(fault.value), reason)

    def _choose(self, presentation: Presentation) -> list[tuple[Track, Transport]]:
        """The first usable video track, and sound where there is any."""
        usable = [track for track in presentation.tracks if is_usable(track)]
        video = next((track for track in usable if track.media == "video"), None)
        if video is None:
            offered = ", ".join(f"{track.media} {track.codec}" for track in presentation.tracks) or "nothing"
            taken = "pictures are taken as H.264 only"
            raise CameraFault(Cause.NO_USABLE_TRACK, f"the camera offers {offered}; {taken}")
        sound = next((track for track in usable if track.media == "audio"), None)
        choices: list[tuple[Track, Transport]] = []
        for track in (video,) if sound is None else (video, sound):
            pull = _TrackPull(track, self._owner)
            self._tracks.append(pull)
            choices.append((track, self._transport(pull, 2 * len(choices))))
        return choices

    def _transport(self, pull: _TrackPull, channel: int) -> Transport:
        if not self._settings.udp:
            return Transport(tcp=True, interleaved=(channel, channel + 1))
        try:
            pull.socket = RtpSocket.open(pull, bind=self._local, ports=self._settings.ports)
        except NoPortLeft as error:
            raise CameraFault(Cause.NO_PORT, str(error)) from error
        pull.socket.expect({pull.track.payload_type})
        return Transport(client_port=(pull.socket.ports.rtp, pull.socket.ports.rtcp))

    def _ready(self, track: Track, transport: Transport) -> None:
        number, pull = next((n, one) for n, one in enumerate(self._tracks) if one.track is track)
        if pull.socket is None:
            pull.channel = (transport.interleaved or (2 * number, 0))[0]
        elif transport.server_port is not None:
            # A source that is a name, or wrong behind NAT, is passed over: the latch finds the real one.
            rtp, rtcp = transport.server_port
            pull.socket.set_remote((self._peer, rtp), (self._peer, rtcp))

    def _drop(self, track: Track) -> None:
        for pull in [one for one in self._tracks if one.track is track]:
            pull.close()
            self._tracks.remove(pull)

    def _take_interleaved(self, channel: int, data: bytes, now: float) -> None:
        for pull in self._tracks:
            if pull.channel == channel:
                pull.rtp_received(data, None, now)
            elif pull.channel is not None and pull.channel + 1 == channel:
                pull.rtcp_received(data, None, now)

    def _tick(self, now: float, writer: asyncio.StreamWriter) -> None:
        for pull in self._tracks:
            for datagram in pull.tick(now):
                if pull.channel is not None and writer.transport.get_write_buffer_size() < _UNSENT_BYTES:
                    writer.write(bytes(Interleaved(pull.channel + 1, datagram)))
            if pull.foreign:
                described = f"it described as {pull.track.codec} with payload type {pull.track.payload_type}"
                raise CameraFault(
                    Cause.CODEC_CHANGED, f"the camera sends {pull.foreign} in the track that {described}"
                )
        if self._playing_since is not None:
            self._judge_pictures(now - self._playing_since)
            self._judge_silence(now, self._playing_since)

    def _judge_silence(self, now: float, since: float) -> None:
        """Sound alone keeps no pull: pictures that stopped come back with another one."""
        silence = self._settings.silence
        last = dict.fromkeys(Kind, since)
        for pull in self._tracks:
            last[pull.kind] = max(since, pull.last_media or 0.0)
        if now - last[Kind.VIDEO] > silence:
            what = "no media" if now - last[Kind.AUDIO] > silence else "sound, but no picture"
            raise CameraFault(Cause.SILENT, f"{what} for {silence:g} s")

    def _judge_pictures(self, played: float) -> None:
        """Media may come, and be nothing that can be shown."""
        if played > self._settings.pictureless:
            for pull in self._tracks:
                if pull.kind is Kind.VIDEO and pull.last_media is not None and not pull.pictures:
                    raise CameraFault(
                        Cause.GARBAGE,
                        f"no whole key frame within {self._settings.pictureless:g} s, "
                        f"{pull.frames} other frames came",
                    )


async def _read(reader: asyncio.StreamReader) -> bytes | None:
    """What came; None when nothing did for a tick, b"" at the end."""
    try:
        async with asyncio.timeout(_TICK):
            return await reader.read(_READ_BYTES)
    except TimeoutError:
        return None
    except OSError:
        return b""
