"""SRTP and SRTCP (RFC 3711; AEAD: RFC 7714), both directions of one session.

    session = SrtpSession(profile, local=MasterKey(...), remote=MasterKey(...))
    session.protect([rtp, ...]) -> [srtp, ...]        session.protect_rtcp(rtcp) -> srtcp
    session.unprotect(srtp) -> rtp                    session.unprotect_rtcp(srtcp) -> rtcp     # SrtpError

A packet may be protected twice only if not one byte differs (a plain retransmission): two different packets
under one SSRC and sequence number would give the key stream away. Start sequence numbers below 2**15, so that
a peer which misses the first packets guesses the rollover counter right (RFC 3711 3.3.1).

RFC 3711 3.3.1 has a late receiver told the rollover counter (ROC); SDES has no words for it. With `late`, for
a session taken up from a worker that died or under a key that changed in mid-stream, the ROC of a stream we
have not heard before is found by trial: its tag authenticates under the right one only. What was sent needs
no memory either, as a session taken up sends under new SSRCs, whose ROC is 0 at both ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from operator import add

from media.frame_packets import FramePackets
from media.srtp_keys import (
    AEAD_AES_128_GCM,
    AEAD_AES_256_GCM,
    AES_CM_128_HMAC_SHA1_32,
    AES_CM_128_HMAC_SHA1_80,
    PROFILES,
    MasterKey,
    SrtpError,
    SrtpProfile,
    derive,
)
from media.srtp_transforms import Transform, transform_for

__all__ = [
    "AEAD_AES_128_GCM",
    "AEAD_AES_256_GCM",
    "AES_CM_128_HMAC_SHA1_32",
    "AES_CM_128_HMAC_SHA1_80",
    "PROFILES",
    "MasterKey",
    "SrtpError",
    "SrtpProfile",
    "SrtpReceiver",
    "SrtpSender",
    "SrtpSession",
    "derive",
]

REPLAY_WINDOW = 1024
MAX_ROLLOVERS = 4096
"""Tried for a stream that was long under way: three days at a thousand packets a second."""
MAX_LOST_ROLLOVERS = 16
"""Tried for a stream that we know: half an hour of silence on the line at as many."""
SEARCH_EVERY = 0.25
"""Seconds between two searches, so that forged packets cost a few per cent of a core at most."""

_WINDOW_MASK = (1 << REPLAY_WINDOW) - 1
_MAX_STREAMS = 64  # SSRCs one peer may bring; only authenticated packets make one
_MAX_SRTCP_INDEX = 0x7FFFFFFF


class SrtpSession:
    """Both directions. `local` protects what we send, `remote` is what the peer protects with."""

    def __init__(
        self,
        profile: SrtpProfile,
        local: MasterKey,
        remote: MasterKey,
        *,
        late: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.profile = profile
        self.rtp_growth = profile.rtp_growth + len(local.mki)
        """Bytes an RTP packet of ours grows by."""
        self._clock = clock
        sender = SrtpSender(transform_for(profile, local))
        self.protect = sender.protect
        self.protect_rtcp = sender.protect_rtcp
        self._take(remote, late=late)

    def _take(self, remote: MasterKey, *, late: bool) -> None:
        receiver = SrtpReceiver(transform_for(self.profile, remote), late=late, clock=self._clock)
        self.unprotect = receiver.unprotect
        self.unprotect_rtcp = receiver.unprotect_rtcp

    def with_remote(self, remote: MasterKey) -> SrtpSession:
        """The peer has a new key; what we send goes on under ours, its packets counted on. Some peers count
        on as well, others begin with ROC 0 again."""
        changed = copy(self)
        changed._take(remote, late=True)
        return changed


class _ReplayWindow:
    """RFC 3711 3.3.2: the highest index and which of the REPLAY_WINDOW before it have come."""

    __slots__ = ("highest", "seen")

    def __init__(self, highest: int) -> None:
        self.highest = highest
        self.seen = 0

    def check(self, index: int) -> None:
        age = self.highest - index
        if age >= REPLAY_WINDOW:
            raise SrtpError("packet is older than the replay window")
        if age >= 0 and self.seen >> age & 1:
            raise SrtpError("packet was replayed")

    def mark(self, index: int) -> None:
        age = self.highest - index
        if age < 0:
            self.seen = (self.seen << min(-age, REPLAY_WINDOW) | 1) & _WINDOW_MASK
            self.highest = index
        else:
            self.seen |= 1 << age


def _guess_index(highest: int, sequence: int) -> int:
    """RFC 3711 3.3.1: the 48-bit index nearest to `highest` that ends in this sequence number."""
    ahead = (sequence - highest) & 0xFFFF
    index = highest + ahead if ahead < 0x8000 else highest + ahead - 0x10000
    if index < 0:
        raise SrtpError("packet comes from before the stream's first")
    return index


def _header_length(packet: bytes) -> int:
    """RFC 3550 5.1 and 5.3.1: fixed header, CSRCs, extension. Raises SrtpError."""
    if len(packet) < 12:
        raise SrtpError("an RTP packet has at least 12 bytes")
    end = 12 + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        if len(packet) < end + 4:
            raise SrtpError("RTP header is cut short")
        end += 4 + 4 * (packet[end + 2] << 8 | packet[end + 3])
    if len(packet) < end:
        raise SrtpError("RTP header is cut short")
    return end


class SrtpSender:
    """What one side sends: the highest index of each SSRC, and the SRTCP index they share."""

    def __init__(self, transform: Transform) -> None:
        self._transform = transform
        self._highest: dict[bytes, int] = {}
        self._rtcp_index = 0

    def protect(self, packets: Sequence[bytes]) -> Sequence[bytes]:
        if type(packets) is FramePackets:
            return FramePackets(packets.headers, self._seal(packets.headers, packets.payloads))
        ends = [12 if packet[:1] == b"\x80" else _header_length(packet) for packet in packets]
        headers = [packet[:end] for packet, end in zip(packets, ends, strict=True)]
        payloads = [packet[end:] for packet, end in zip(packets, ends, strict=True)]
        return list(map(add, headers, self._seal(headers, payloads)))

    def _seal(self, headers: Sequence[bytes], payloads: Sequence[bytes]) -> list[bytes]:
        """Ciphertexts with their tags."""
        seal, known = self._transform.seal, self._highest
        sealed = []
        for header, payload in zip(headers, payloads, strict=True):
            if len(header) < 12:
                raise SrtpError("an RTP packet has at least 12 bytes")
            sequence = header[2] << 8 | header[3]
            ssrc = header[8:12]
            highest = known.get(ssrc)
            if highest is None:
                highest = known[ssrc] = sequence
            index = _guess_index(highest, sequence)
            if index > highest:
                known[ssrc] = index
            sealed.append(seal(header, payload, index))
        return sealed

    def protect_rtcp(self, packet: bytes) -> bytes:
        if len(packet) < 8:
            raise SrtpError("an RTCP packet has at least 8 bytes")
        if self._rtcp_index > _MAX_SRTCP_INDEX:
            raise SrtpError("the SRTCP index is used up: new keys are needed")
        index = self._rtcp_index
        self._rtcp_index += 1
        return self._transform.seal_rtcp(packet, index)


class SrtpReceiver:
    """What one side receives: a replay window a stream, and the search for a ROC nobody told us."""

    def __init__(
        self, transform: Transform, *, late: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._transform = transform
        self._late = late
        self._clock = clock
        self._searched = float("-inf")
        self._streams: dict[bytes, _ReplayWindow] = {}
        self._rtcp_streams: dict[bytes, _ReplayWindow] = {}

    def unprotect(self, packet: bytes) -> bytes:
        end = _header_length(packet)
        header, sealed = packet[:end], packet[end:]
        sequence, ssrc = packet[2] << 8 | packet[3], packet[8:12]
        window = self._streams.get(ssrc)
        if window is None:
            window = _new_window(self._streams, sequence)
        index = _guess_index(window.highest, sequence)
        try:
            window.check(index)
            payload = self._transform.open(header, sealed, index)
        except SrtpError as error:
            found = self._search(header, sealed, self._candidates(ssrc, window, sequence))
            if found is None:
                raise error from None
            index, payload = found
        window.mark(index)
        self._streams[ssrc] = window
        return header + payload

    def _candidates(self, ssrc: bytes, window: _ReplayWindow, sequence: int) -> Iterable[int]:
        """Indices that a packet may have which is not where RFC 3711 3.3.1 expects it.

        Of a stream that we know: beyond what was guessed, if more than 2**15 packets were lost.
        """
        if ssrc in self._streams:
            first = (window.highest >> 16) + 1
            rollovers = range(first, first + MAX_LOST_ROLLOVERS)
        else:
            rollovers = range(1, MAX_ROLLOVERS if self._late else 1)
        return (rollover << 16 | sequence for rollover in rollovers)

    def _search(self, header: bytes, sealed: bytes, indices: Iterable[int]) -> tuple[int, bytes] | None:
        now = self._clock()
        if now - self._searched < SEARCH_EVERY:
            return None
        self._searched = now
        for index in indices:
            try:
                return index, self._transform.open(header, sealed, index)
            except SrtpError:
                continue
        return None

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """The index stands in the packet: nothing to guess or to search."""
        index = self._transform.rtcp_word(packet) & _MAX_SRTCP_INDEX
        ssrc = packet[4:8]
        window = self._rtcp_streams.get(ssrc)
        if window is None:
            window = _new_window(self._rtcp_streams, index)
        window.check(index)
        clear = self._transform.open_rtcp(packet)
        window.mark(index)
        self._rtcp_streams[ssrc] = window
        return clear


def _new_window(streams: dict[bytes, _ReplayWindow], index: int) -> _ReplayWindow:
    if len(streams) >= _MAX_STREAMS:
        raise SrtpError(f"the peer already sends {_MAX_STREAMS} streams")
    return _ReplayWindow(index)
