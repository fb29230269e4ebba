"""Many sites on plain sockets, from one thread: what they send is made beforehand, what comes is counted.

    crowd = Crowd([Site(number, picture) for number in range(126)])
    answer = await desk.admit(spec, crowd.sites[0].offer()); crowd.sites[0].answered(answer)
    crowd.play(60.0)                                 blocks: for a thread
    crowd.forget(); site.picture.counted.lost, site.picture.counted.frames

A receiver counts by the headers, which SRTP leaves readable: what is lost is a hole in the numbers.
"""

from __future__ import annotations

import random
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks._fan_out_sender import SourceFrame
from foundation.desks import (
    CodecDescription,
    CryptoKey,
    Direction,
    MediaDescription,
    MediaSection,
    SectionKind,
)
from media.srtp import AEAD_AES_128_GCM, MasterKey, SrtpSession

HOST = "127.0.0.1"
SLOTS = 10
"""Sites send their sound one after another within 20 ms, as those that know nothing of each other."""
SLOT = 0.020 / SLOTS
_BUFFER = 4 * 1024 * 1024
_SUITE = AEAD_AES_128_GCM
_HEADER = struct.Struct("!BBHII")
SOUND = CodecDescription("PCMA", 8, 8_000)
PICTURE = CodecDescription(
    "H264", 97, 90_000, 1, {"profile-level-id": "42e01f", "packetization-mode": "1"}, ("nack pli",)
)


@dataclass(slots=True)
class Counted:
    """RTP that came: `packets`, whole pictures by their markers, and the span of sequence numbers."""

    packets: int = 0
    frames: int = 0
    first: int = -1
    highest: int = -1

    def take(self, sequence: int, marker: bool) -> None:
        self.packets += 1
        self.frames += marker
        if self.first < 0:
            self.first = self.highest = sequence
            return
        ahead = (sequence - self.highest) & 0xFFFF
        if ahead < 0x8000:
            self.highest += ahead

    @property
    def lost(self) -> int:
        return 0 if self.first < 0 else self.highest - self.first + 1 - self.packets


class Medium:
    """One socket of a site, RTP and RTCP in one, with what it sends next."""

    def __init__(self, kind: SectionKind, codec: CodecDescription, *, secure: bool) -> None:
        self.kind = kind
        self.codec = codec
        self.counted = Counted()
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self.sock.bind((HOST, 0))
        self.sock.setblocking(False)
        self._key = MasterKey.generate(_SUITE) if secure else None
        self._session: SrtpSession | None = None
        self._remote: tuple[str, int] | None = None
        self._sequence = random.randrange(1 << 15)
        self._time = random.getrandbits(31)
        self._ssrc = random.getrandbits(32)

    def section(self, direction: Direction) -> MediaSection:
        crypto = () if self._key is None else (CryptoKey(1, _SUITE.name, self._key.inline()),)
        return MediaSection(
            self.kind,
            HOST,
            self.sock.getsockname()[1],
            "RTP/AVP" if self._key is None else "RTP/SAVP",
            codecs=(self.codec,),
            direction=direction,
            rtcp_mux=True,
            crypto=crypto,
        )

    def answered(self, section: MediaSection) -> None:
        self._remote = (section.address, section.port)
        if self._key is not None:
            remote = MasterKey.parse_inline(_SUITE, section.crypto[0].key)
            self._session = SrtpSession(_SUITE, self._key, remote)

    def send(self, payloads: Sequence[bytes], ticks: int, *, marker: bool) -> None:
        """One frame, `ticks` of the clock after the last."""
        if self._remote is None:
            return
        self._time += ticks
        packets = []
        for number, payload in enumerate(payloads):
            mark = 0x80 if marker and number == len(payloads) - 1 else 0
            self._sequence = (self._sequence + 1) & 0xFFFF
            kind = mark | self.codec.payload_type
            header = _HEADER.pack(0x80, kind, self._sequence, self._time & 0xFFFF_FFFF, self._ssrc)
            packets.append(header + payload)
        if self._session is not None:
            packets = list(self._session.protect(packets))
        for packet in packets:
            self.sock.sendto(packet, self._remote)

    def drain(self, buffer: bytearray) -> None:
        """Count what waits."""
        receive, take = self.sock.recv_into, self.counted.take
        while True:
            try:
                receive(buffer)
            except BlockingIOError:
                return
            kind = buffer[1]
            if 192 <= kind <= 223:  # RTCP (RFC 5761 4)
                continue
            take(buffer[2] << 8 | buffer[3], kind >= 0x80)


@dataclass
class Site:
    """A site: its sound is a payload of 20 ms again and again, its picture frames of `fps`, looped."""

    number: int
    frames: Sequence[SourceFrame] = ()
    fps: int = 25
    sounds: bytes = bytes([0xD5]) * 160
    secure: bool = False
    viewing: bool = False
    only_sound: bool = False
    medium: type[Medium] = Medium
    sound: Medium = field(init=False)
    picture: Medium = field(init=False)
    sent: int = 0

    def __post_init__(self) -> None:
        self.sound = self.medium(SectionKind.AUDIO, SOUND, secure=self.secure)
        self.picture = self.medium(SectionKind.VIDEO, PICTURE, secure=self.secure)

    @property
    def media(self) -> tuple[Medium, ...]:
        return (self.sound,) if self.only_sound else (self.sound, self.picture)

    def offer(self) -> MediaDescription:
        direction = Direction.RECVONLY if self.viewing else Direction.SENDRECV
        return MediaDescription(tuple(medium.section(direction) for medium in self.media))

    def answered(self, answer: MediaDescription) -> None:
        for medium, section in zip(self.media, answer.sections, strict=True):
            medium.answered(section)

    def speak(self) -> None:
        self.sound.send((self.sounds,), 160, marker=False)

    def show(self) -> None:
        frame = self.frames[self.sent % len(self.frames)]
        self.picture.send(frame.payloads, 90_000 // self.fps, marker=True)
        self.sent += 1


class Crowd:
    """See the module's head."""

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self._selector = selectors.EpollSelector()
        self._buffer = bytearray(65536)

    def add(self, site: Site) -> None:
        self.sites.append(site)
        for medium in site.media:
            self._selector.register(medium.sock, selectors.EVENT_READ, medium)

    def forget(self) -> None:
        """Count from now on."""
        for site in self.sites:
            for medium in site.media:
                medium.counted = Counted()

    def play(self, seconds: float) -> None:
        """Send and count for so long, then count what is still under way."""
        slots: list[list[Site]] = [[] for _ in range(SLOTS)]
        for place, site in enumerate(site for site in self.sites if not site.viewing):
            slots[place % SLOTS].append(site)
        begin = time.monotonic()
        for index in range(round(seconds / SLOT)):
            self._listen(begin + index * SLOT)
            for site in slots[index % SLOTS]:
                site.speak()
                if site.frames and (index // SLOTS) % (50 // site.fps) == site.number % (50 // site.fps):
                    site.show()
        self._listen(time.monotonic() + 0.3)

    def _listen(self, until: float) -> None:
        while True:
            for key, _ in self._selector.select(max(0.0, until - time.monotonic())):
                key.data.drain(self._buffer)
            if time.monotonic() >= until:
                return

    def close(self) -> None:
        self._selector.close()
        for site in self.sites:
            site.sound.sock.close()
            site.picture.sock.close()
