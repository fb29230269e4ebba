"""One coded stream to its receivers: split once a packetization, sent to each.

A receiver that is given another stream keeps the old one until the new one's next key frame, so that
no switch shows black or grey. One that has none is shown a still meanwhile, where the source makes no key
frames on request. Work is per frame: the payloads are made once and shared.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import structlog

from media.packet import Packet
from media.stream import Stream
from protocols.payloads import Packetizer

log = structlog.get_logger(__name__)


class PictureReceiver(Protocol):
    """A leg that can be sent pictures.

    Legs with equal `packetization` are sent the same payloads. `outlet` is whose pictures it shows.
    """

    outlet: Outlet | None

    @property
    def packetization(self) -> Hashable: ...

    def make_packetizer(self) -> Packetizer: ...

    def send_picture(self, payloads: Sequence[bytes], packet: Packet, *, first: bool) -> None:
        """Send one frame; `first` when the stream is another than that of the frame before."""
        ...


class Outlet:
    """The receivers of one stream. `run` lives as long as the stream or until it is cancelled.

    `still` gives the latest key frame of a source that makes none on request, if it is fresh.
    """

    def __init__(self, stream: Stream, still: Callable[[], Packet | None] | None = None) -> None:
        self.stream = stream
        self._still = still
        self.unsendable = 0
        self.failed = 0
        self._receivers: list[PictureReceiver] = []
        self._packetizers: dict[Hashable, Packetizer] = {}

    @property
    def receivers(self) -> int:
        return len(self._receivers)

    def attach(self, receiver: PictureReceiver) -> None:
        """From the next key frame on, `receiver` shows this stream.

        The frames since the last one, sent in a burst, made terminals decode a grey frame now and then.
        """
        if receiver in self._receivers:
            return
        self._receivers.append(receiver)
        self.stream.request_keyframe()
        if self._still is not None and receiver.outlet is None:
            self._show_still(receiver, self._still())

    def _show_still(self, receiver: PictureReceiver, packet: Packet | None) -> None:
        payloads = () if packet is None else self._payloads(receiver, packet)
        if packet is not None and payloads:
            self._send(receiver, payloads, packet, first=True)

    def detach(self, receiver: PictureReceiver) -> None:
        if receiver in self._receivers:
            self._receivers.remove(receiver)
        if receiver.outlet is self:
            receiver.outlet = None

    async def run(self) -> None:
        # A long group of pictures is not sent at once: a still and the next key frame do.
        async with self.stream.reader(from_keyframe=self._still is None) as reader:
            async for packet in reader:
                self.send(packet)

    def send(self, packet: Packet) -> None:
        """One frame to every receiver that shows this stream, or can begin to with this frame."""
        split: dict[Hashable, Sequence[bytes]] = {}
        for receiver in tuple(self._receivers):
            first = receiver.outlet is not self
            if first and not packet.keyframe:
                continue
            key = receiver.packetization
            if key not in split:
                split[key] = self._payloads(receiver, packet)
            payloads = split[key]
            if not payloads:
                continue
            if first:
                self._take(receiver)
            self._send(receiver, payloads, packet, first=first)

    def _send(
        self, receiver: PictureReceiver, payloads: Sequence[bytes], packet: Packet, *, first: bool
    ) -> None:
        """A receiver that fails takes no picture from the others."""
        try:
            receiver.send_picture(payloads, packet, first=first)
        except Exception as error:
            self.failed += 1
            if self.failed.bit_count() == 1:
                log.error("picture_not_sent", stream=self.stream.id, failed=self.failed, exc_info=error)

    def _take(self, receiver: PictureReceiver) -> None:
        before = receiver.outlet
        receiver.outlet = self
        if before is not None:
            before.detach(receiver)

    def _payloads(self, receiver: PictureReceiver, packet: Packet) -> Sequence[bytes]:
        key = receiver.packetization
        if key not in self._packetizers:
            self._packetizers[key] = receiver.make_packetizer()
        try:
            return self._packetizers[key].packetize(packet.data)
        except (ValueError, IndexError):  # a frame passed through may be anything
            self.unsendable += 1
            return ()
