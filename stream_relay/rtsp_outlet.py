"""One Stream as RTP, printed once a frame for all players of a transport."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Protocol

from media.frame_packets import FramePackets
from media.packet import Kind, Packet
from media.rtp_sender import RtpSender, SenderSettings
from media.stream import GOP_BYTES, Stream
from protocols.rtp.packet import HEADER_SIZE
from protocols.rtsp.framing import interleaved_headers
from stream_relay.track_formats import packetizer_for, payload_type

MAX_DATAGRAM_PAYLOAD = 1400
MAX_INTERLEAVED_PAYLOAD = 8192 - HEADER_SIZE
"""The fewer packets, the less a frame costs us and its players. TCP knows no MTU, but players have bounds:
ffmpeg is made for packets of 8192 bytes, ZLMediaKit drops those above 10240."""
_SEQUENCE, _TIMESTAMP = slice(2, 4), slice(4, 8)


class OutletFrame:
    """The RTP packets of one frame; what players of one channel write is made once and shared."""

    __slots__ = ("_printed", "keyframe", "packets", "size")

    def __init__(self, packets: FramePackets, keyframe: bool) -> None:
        self.packets = packets
        self.keyframe = keyframe
        self.size = sum(packets.sizes)
        self._printed: dict[int, bytes] = {}

    def interleaved(self, channel: int) -> bytes:
        """All packets with their `$` headers (RFC 2326 10.12), for one write."""
        printed = self._printed.get(channel)
        if printed is None:
            packets = self.packets
            parts = [b""] * (3 * len(packets))
            parts[::3] = interleaved_headers(channel, packets.sizes)
            parts[1::3] = packets.headers
            parts[2::3] = packets.payloads
            printed = self._printed[channel] = b"".join(parts)
        return printed


class OutletPlayer(Protocol):
    """Takes what an outlet prints, and never makes it wait."""

    def take_frame(self, outlet: RtspOutlet, frame: OutletFrame) -> None:
        """Not called while the player has the outlet send straight to it."""
        ...

    def take_rest(self, outlet: RtspOutlet, rest: bytes) -> None:
        """What its socket did not take of a frame that was sent straight: the player is to be asked again."""
        ...

    def take_report(self, outlet: RtspOutlet, datagram: bytes) -> None: ...

    def outlet_ended(self, outlet: RtspOutlet) -> None: ...


class RtspOutlet:
    """Follows the stream until `close`. A player that joins gets the current group of pictures at once.
    With `tcp` its packets are of a size for interleaving (RFC 2326 10.12), else for datagrams.

    All players share sequence numbers and SSRC: to each it is one ordinary RTP stream. `damaged` counts
    frames that were left out because bytes of them, or of those they refer to, were missing, `refused` those
    that no payload can carry.
    """

    def __init__(self, stream: Stream, index: int, *, tcp: bool) -> None:
        self.stream = stream
        self.tcp = tcp
        self.damaged = 0
        self.refused = 0
        number = payload_type(stream.format, index)
        self._packetizer = packetizer_for(
            stream.format, MAX_INTERLEAVED_PAYLOAD if tcp else MAX_DATAGRAM_PAYLOAD
        )
        self._sender = RtpSender(
            SenderSettings(secrets.randbits(32), "anshi", number, stream.format.clock_rate)
        )
        self._asked: dict[OutletPlayer, None] = {}
        self._straight: dict[int, dict[OutletPlayer, Callable[[bytes], int]]] = {}
        self._group: list[OutletFrame] = []
        self._group_bytes = 0
        self._source = stream.follow(self._print, self._ended)

    @property
    def ssrc(self) -> int:
        return self._sender.ssrc

    @property
    def players(self) -> int:
        return len(self._asked) + sum(map(len, self._straight.values()))

    @property
    def first_packet(self) -> tuple[int, int] | None:
        """Sequence number and timestamp a player that joins now begins with, as far as known (RTP-Info)."""
        if not self._group:
            return None
        header = self._group[0].packets.headers[0]
        return int.from_bytes(header[_SEQUENCE], "big"), int.from_bytes(header[_TIMESTAMP], "big")

    def join(self, player: OutletPlayer) -> None:
        self._asked[player] = None
        for frame in self._group:
            player.take_frame(self, frame)

    def leave(self, player: OutletPlayer) -> None:
        self.ask(player)
        self._asked.pop(player, None)

    def send_straight(self, player: OutletPlayer, channel: int, send: Callable[[bytes], int]) -> None:
        """A player that has joined takes whatever comes, by one `send` a frame (socket.send), until it wants
        to be asked: to ask each of many, or its transport, costs nearly as much as to send to it."""
        if player in self._asked:
            del self._asked[player]
            self._straight.setdefault(channel, {})[player] = send

    def ask(self, player: OutletPlayer) -> None:
        """Its frames go through `take_frame` again; nothing where they do anyhow."""
        for channel, sends in tuple(self._straight.items()):
            if sends.pop(player, None) is not None:
                self._asked[player] = None
            if not sends:
                del self._straight[channel]

    def close(self) -> None:
        """Nothing more is printed; safe to call twice."""
        self._source.close()
        self._forget()

    def _ended(self) -> None:
        for player in self._all():
            player.outlet_ended(self)

    def report(self, now: float, wall_clock: float) -> None:
        """Sends the sender reports that are due."""
        for datagram in self._sender.poll(now, wall_clock):
            for player in self._all():
                player.take_report(self, datagram)

    def _print(self, packet: Packet) -> None:
        if packet.damaged:
            self.damaged += 1
            self._forget()
            return
        try:
            payloads = self._packetizer.packetize(packet.data)
        except ValueError:
            self.refused += 1
            self._forget()
            return
        marker = self.stream.format.kind is Kind.VIDEO or self.stream.format.codec == "MPEG4-GENERIC"
        headers = self._sender.headers(payloads, packet.pts, packet.arrival, marker=marker)
        frame = OutletFrame(FramePackets(headers, payloads), packet.keyframe)
        if self.stream.format.kind is Kind.VIDEO:
            self._remember(frame)
        asked = tuple(self._asked)  # before anything is sent: whoever is asked again has the frame
        for player, rest in self._send(frame) if self._straight else ():
            player.take_rest(self, rest)
        for player in asked:
            player.take_frame(self, frame)

    def _send(self, frame: OutletFrame) -> list[tuple[OutletPlayer, bytes]]:
        """Straight to whom it may be; who did not take all of it, and what is left."""
        left = []
        for channel, sends in self._straight.items():
            data = frame.interleaved(channel)
            size = len(data)
            for player, send in sends.items():
                try:
                    sent = send(data)
                except OSError:  # it would block; or the connection is gone, which its transport finds out
                    sent = 0
                if sent != size:
                    left.append((player, data[sent:]))
        return left

    def _all(self) -> tuple[OutletPlayer, ...]:
        return (*self._asked, *(player for sends in self._straight.values() for player in sends))

    def _remember(self, frame: OutletFrame) -> None:
        if frame.keyframe:
            self._group, self._group_bytes = [frame], frame.size
        elif self._group:
            self._group.append(frame)
            self._group_bytes += frame.size
            if self._group_bytes > GOP_BYTES:
                self._forget()

    def _forget(self) -> None:
        self._group, self._group_bytes = [], 0
