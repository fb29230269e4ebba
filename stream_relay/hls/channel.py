"""A broadcast as its viewers see it: the live playlist, who watches, what was sent; and its end."""

from __future__ import annotations

from enum import StrEnum

from foundation.clock import Clock
from stream_relay.hls.live_broadcast import LiveBroadcast
from stream_relay.hls.viewers import Viewers


class ChannelState(StrEnum):
    """What a viewer is told."""

    WAITING = "waiting"
    LIVE = "live"
    ENDED = "ended"


class Channel:
    """Made when a broadcast begins. After `stop` viewers get the playlist's end and nothing else of it."""

    def __init__(self, title: str, clock: Clock, *, delay: float = 0.0) -> None:
        self.title = title
        self.delay = delay
        # Seconds since 1970: every later run of the same name begins above what this one will have used.
        self.live = LiveBroadcast(clock, first=int(clock.now().timestamp()))
        self.viewers = Viewers(clock)
        self.sent_bytes = 0
        self.playing = False
        self.stopped = False

    @property
    def state(self) -> ChannelState:
        if self.stopped:
            return ChannelState.ENDED
        return ChannelState.LIVE if self.playing and self.live.playlist.begun else ChannelState.WAITING

    def stop(self) -> None:
        """For all viewers, at once; safe to call twice."""
        self.stopped = True
        self.playing = False
        if not self.live.playlist.ended:
            self.live.end()
            self.live.playlist.forget()
