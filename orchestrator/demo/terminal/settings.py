"""What a test terminal is and can do, and what it measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from foundation.desks import Direction
from media.rtp_socket import PortRange
from orchestrator.demo.terminal.footage import COLOURS, Rgb
from orchestrator.demo.terminal.senses import Watching

AUDIO = ("PCMA", "PCMU", "G722", "OPUS")
VIDEO = ("H264/1", "H264/0", "VP8", "H263-1998", "H263", "H261")
RTP_PORTS = PortRange(32_000, 32_767)


@dataclass(frozen=True, slots=True)
class TerminalSettings:
    """A terminal. Rates are bit/s, sizes samples, frequencies Hz.

    `colour` is RGB or one of COLOURS' names; `tone_hz` None sends silence. Codecs come first preferred,
    "H264/1" and "H264/0" by packetization mode; none of a kind leaves that medium out. `bitrate` is that of
    the coded picture; `receive_bps` goes into b=AS of our descriptions and asks the peer by REMB.
    H.263 and H.261 are sent in CIF or less.
    `direction` is that of the picture, as we wish it. `feedback` False makes a terminal that knows no
    RTCP feedback (and asks for key frames by INFO). `looped` plays a group of pictures of `loop_seconds`
    coded once; otherwise each picture is coded when it is due. `slides` is the colour of a second picture,
    sent while it presents (None: no second stream), `floor` the transport of its BFCP. `hashing` keeps the
    SHA-256 of every coded picture sent and received.
    """

    name: str
    bind: str = "127.0.0.1"
    sip_port: int = 0
    transport: Literal["UDP", "TCP"] = "UDP"
    display_name: str = ""
    colour: Rgb | str = "red"
    tone_hz: float | None = 440.0
    video: tuple[str, ...] = ("H264/1", "H264/0")
    audio: tuple[str, ...] = ("PCMA", "PCMU")
    width: int = 640
    height: int = 360
    fps: int = 25
    bitrate: int = 500_000
    receive_bps: int | None = None
    direction: Direction = Direction.SENDRECV
    detail: int = 0
    numbered: bool = False
    looped: bool = True
    loop_seconds: float = 4.0
    watching: Watching = Watching.ALL
    hashing: bool = False
    feedback: bool = True
    answers: bool = True
    slides: Rgb | str | None = None
    floor: Literal["UDP", "TCP"] | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    rtp_ports: PortRange = RTP_PORTS

    def __post_init__(self) -> None:
        """Raises ValueError for what no terminal of ours can be."""
        unknown = {*self.video, *self.audio} - {*VIDEO, *AUDIO}
        if unknown:
            raise ValueError(f"terminal {self.name}: unknown codec {', '.join(sorted(unknown))}")
        if isinstance(self.colour, str) and self.colour not in COLOURS:
            raise ValueError(f"terminal {self.name}: {self.colour!r} is none of {', '.join(COLOURS)}")
        if (self.username is None) != (self.password is None):
            raise ValueError(f"terminal {self.name}: username and password go together")


def rgb(colour: Rgb | str) -> Rgb:
    """The colour of that name, or itself. Raises KeyError for an unknown name."""
    return COLOURS[colour] if isinstance(colour, str) else colour


@dataclass(frozen=True, slots=True)
class WireSecond:
    """IP bytes of media in the second before `end` (monotonic), RTP and RTCP with all headers."""

    end: float
    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class TerminalReport:
    """What a terminal measured in its present or last call; times in seconds, rates in bit/s."""

    name: str
    in_call: bool
    video_codec: str | None
    audio_codec: str | None
    first_frame_after: float | None
    frames_received: int
    frames_decoded: int
    frames_damaged: int
    frames_sent: int
    key_frames_received: int
    key_frames_sent: int
    size: tuple[int, int] | None
    source_changes: int
    longest_freeze: float
    sound_packets: int
    longest_sound_gap: float
    sent_bytes: int
    received_bytes: int
    peak_sent_bps: int
    peak_received_bps: int
