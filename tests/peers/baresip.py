"""baresip (Debian's 1.0) as a room terminal without devices: one colour, one tone, and it keeps what comes.

What its configuration has to mind: an avformat source needs a file of video alone without B frames; `-n`
takes the address to use (no net_interface line); stdio.so would read our terminal; a dialled URI must not
repeat the account's transport; TLS listens on the port after sip_listen's; H.263 needs a CIF size.
"""

import asyncio
import contextlib
import itertools
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.peers.media import Footage, write_h264, write_tone
from tests.peers.picture import CENTRE, CODED, RED, Colour, Picture, Region, load, mean_colour, shows
from tests.peers.ports import PortBlock
from tests.peers.process import PeerProcess, tail
from tests.peers.sound import Sound, dominant_tone, hears, read_wav
from tests.peers.waiting import until, until_true

MODULES = "/usr/lib/baresip/modules"
CODECS = ("g711", "g722", "opus", "avcodec", "vp8")
DEVICES = ("avformat", "fakevideo", "aufile", "aubridge", "sndfile", "swscale", "snapshot")
TRANSPORTS = ("srtp", "dtls_srtp", "stun", "turn", "ice", "uuid")
APPLICATIONS = ("contact", "debug_cmd", "menu", "ctrl_tcp")
AUDIO = ("PCMU/8000/1", "PCMA/8000/1", "G722/16000/1", "opus/48000/1")
VIDEO = ("H264", "H263", "VP8")
SOURCE_RATE = 48_000
TONE_SECONDS = 180.0
PICTURE_REPEATS = 45
"""baresip hangs up when its sound file ends and shows no more when the picture's does: longer than a test."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the terminal is and can do.

    Codecs in baresip's words, first preferred; none means all it has. H264 by name is packetization mode 0,
    among all it is offered in modes 0 and 1. `transport` is udp, tcp or tls. `encryption` is "", srtp,
    srtp-mand or dtls_srtp. With a `registrar` (host:port) it registers there as `user` and dials through it.
    """

    user: str = "room"
    colour: Colour = RED
    tone: float = 440.0
    audio_codecs: tuple[str, ...] = ("PCMA/8000/1", "PCMU/8000/1")
    video_codecs: tuple[str, ...] = ("H264",)
    transport: str = "udp"
    width: int = 352
    height: int = 288
    rate: int = 25
    detail: int = 0
    video_bit_rate: int = 600_000
    encryption: str = ""
    nat: str = ""
    password: str = ""
    registrar: str = ""
    answers: bool = True
    address: str = "127.0.0.1"
    certificate: Path | None = None

    @property
    def host(self) -> str:
        """The address as URIs and SIP headers have it."""
        return f"[{self.address}]" if ":" in self.address else self.address

    def __post_init__(self) -> None:
        """Raises ValueError for a codec that baresip does not know: it would quietly offer all others."""
        unknown = {*self.audio_codecs, *self.video_codecs} - {*AUDIO, *VIDEO}
        if unknown:
            raise ValueError(f"baresip has no codec {', '.join(sorted(unknown))}")


@dataclass(frozen=True, slots=True)
class Event:
    """One event of ctrl_tcp: its type (CALL_ESTABLISHED, CALL_CLOSED, ...), parameter and call."""

    type: str
    parameter: str
    call: str
    peer: str


@dataclass(slots=True)
class _Control:
    """baresip's ctrl_tcp: JSON objects in netstrings, answers matched to commands by their token."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sent: int = 0
    waiting: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    async def read(self) -> None:
        """Sort what comes until the connection ends."""
        async for message in self._messages():
            if message.get("event"):
                words = (str(message.get(key, "")) for key in ("type", "param", "id", "peeruri"))
                self.events.append(Event(*words))
            elif message.get("token") in self.waiting:
                future = self.waiting.pop(message["token"])
                if not future.done():
                    future.set_result(message)

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = await self.reader.readuntil(b":")
                body = await self.reader.readexactly(int(length[:-1]) + 1)
                yield json.loads(body[:-1])

    async def command(self, name: str, parameters: str, timeout: float) -> str:
        """Its answer's text; AssertionError when it refuses or says nothing."""
        self.sent += 1
        token = f"t{self.sent}"
        future = asyncio.get_running_loop().create_future()
        self.waiting[token] = future
        body = json.dumps({"command": name, "params": parameters, "token": token}).encode()
        self.writer.write(b"%d:%b," % (len(body), body))
        try:
            async with asyncio.timeout(timeout):
                answer: dict[str, Any] = await future
        except TimeoutError:
            raise AssertionError(f"baresip did not answer {name} {parameters}") from None
        if not answer.get("ok"):
            raise AssertionError(f"baresip refused {name} {parameters}: {answer.get('data')}")
        return str(answer.get("data", ""))


class Baresip:
    """A terminal: `async with Baresip(folder, Room(...)) as room: await room.dial("sip:9@127.0.0.1")`."""

    def __init__(self, folder: Path, room: Room | None = None) -> None:
        self.folder = folder
        self.room = room or Room()
        self._stack = contextlib.AsyncExitStack()
        self._pictures = itertools.count()
        self.sip_port = 0

    @property
    def uri(self) -> str:
        """Where a peer without a registrar dials it."""
        port = self.sip_port + (self.room.transport == "tls")
        return f"sip:{self.room.user}@{self.room.host}:{port}"

    @property
    def rtp_ports(self) -> tuple[int, int]:
        """The first and the last port it uses for media."""
        return self._rtp, self._rtp + 39

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = self._stack.enter_context(PortBlock())
        self.sip_port, self._control_port = ports.take(2), ports.take()
        self._rtp = ports.take(40, even=True)
        await asyncio.to_thread(self._write_files)
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _start(self) -> None:
        command = ["baresip", "-s", "-f", str(self.folder), "-n", self.room.address]
        self._process = await PeerProcess.start("baresip", command, self.folder)
        self._stack.push_async_callback(self._process.aclose)
        await self._process.listening("127.0.0.1", self._control_port)
        self._control = _Control(*await asyncio.open_connection("127.0.0.1", self._control_port))
        reading = asyncio.create_task(self._control.read())
        self._stack.push_async_callback(self._end, reading)

    async def _end(self, reading: asyncio.Task[None]) -> None:
        self._control.writer.close()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def command(self, name: str, parameters: str = "", timeout: float = 5.0) -> str:
        """Any command of its menu, as its documentation names it."""
        return await self._control.command(name, parameters, timeout)

    async def dial(self, uri: str) -> None:
        """Start a call; `established` waits for the answer."""
        await self.command("dial", uri)

    async def hang_up(self) -> None:
        await self.command("hangup")

    def vanish(self) -> None:
        """Its power is cut: no BYE, no RTCP BYE, nothing any more."""
        self._process.send(signal.SIGKILL)

    @property
    def events(self) -> tuple[Event, ...]:
        return tuple(self._control.events)

    async def event(self, kind: str, timeout: float = 10.0, after: int = 0) -> Event:
        """The first event of this type, not counting the first `after` ones of it."""

        def of_kind() -> list[Event]:
            return [event for event in self._control.events if event.type == kind]

        await until_true(
            lambda: len(of_kind()) > after, f"{self.room.user}: {kind}", timeout, lambda: self.words()
        )
        return of_kind()[after]

    async def established(self, timeout: float = 10.0) -> Event:
        return await self.event("CALL_ESTABLISHED", timeout)

    async def closed(self, timeout: float = 10.0) -> Event:
        """The end of its first call; the parameter tells why ("404 Not Found")."""
        return await self.event("CALL_CLOSED", timeout)

    def words(self) -> str:
        """The end of its log: the SIP messages are in it."""
        return tail(self._process.log)

    async def picture(self) -> Picture:
        """The next frame it decodes; AssertionError when none comes."""
        path = self.folder / f"seen-{next(self._pictures)}.png"
        await self.command("snapshot_recv", str(path))
        pictures: list[Picture] = []

        def written() -> bool:
            with contextlib.suppress(OSError, SyntaxError):
                pictures.append(load(path))
            return bool(pictures)

        await until_true(written, f"a picture at {self.room.user}", 5.0, self.words)
        path.unlink()
        return pictures[0]

    async def sees(
        self, colour: Colour, region: Region = CENTRE, timeout: float = 10.0, tolerance: int = CODED
    ) -> Picture:
        """Wait until it shows the colour there; AssertionError with the colour that it shows instead."""

        async def look() -> tuple[Colour | str, Picture | None]:
            try:
                picture = await self.picture()
            except AssertionError as nothing:
                return str(nothing).partition("\n")[0], None
            return mean_colour(picture, region), picture

        _, picture = await until(
            look,
            lambda seen: seen[1] is not None and shows(seen[1], colour, region, tolerance),
            f"{self.room.user} to see {colour}",
            timeout,
        )
        assert picture is not None
        return picture

    def heard(self, seconds: float | None = None) -> Sound | None:
        """What it decoded in its newest call (its last `seconds`), or None when nothing came yet."""
        files = sorted(self.folder.glob("dump-*-dec.wav"), key=lambda path: path.stat().st_mtime_ns)
        if not files:
            return None
        try:
            sound = read_wav(files[-1])
        except ValueError:
            return None
        return sound if seconds is None else sound.last(seconds)

    async def hears(self, frequency: float, timeout: float = 10.0, seconds: float = 1.0) -> None:
        """Wait until the last `seconds` hold the tone; AssertionError with the one it hears instead."""

        async def listen() -> tuple[bool, float | None]:
            sound = self.heard(seconds)
            return (False, None) if sound is None else (hears(sound, frequency), dominant_tone(sound))

        await until(listen, lambda seen: seen[0], f"{self.room.user} to hear {frequency} Hz", timeout)

    def _write_files(self) -> None:
        room = self.room
        footage = Footage(room.colour, room.width, room.height, room.rate, room.detail)
        write_h264(self.folder / "picture.mp4", footage, repeats=PICTURE_REPEATS)
        write_tone(self.folder / "tone.wav", room.tone, SOURCE_RATE, TONE_SECONDS)
        (self.folder / "accounts").write_text(self._account() + "\n")
        (self.folder / "contacts").write_text("")
        lines = "".join(f"{key} {value}\n" for key, value in self._settings().items())
        modules = "".join(f"module {name}.so\n" for name in (*CODECS, *DEVICES, *TRANSPORTS))
        applications = "".join(f"module_app {name}.so\n" for name in APPLICATIONS)
        (self.folder / "config").write_text(f"{lines}{modules}module_tmp account.so\n{applications}")

    def _account(self) -> str:
        room = self.room
        host = room.registrar or f"{room.host}:{self.sip_port + (room.transport == 'tls')}"
        parameters = {
            "regint": "60" if room.registrar else "0",
            "answermode": "auto" if room.answers else "manual",
            "audio_codecs": ",".join(room.audio_codecs),
            "video_codecs": ",".join(room.video_codecs),
            "mediaenc": room.encryption,
            "medianat": room.nat,
            "auth_user": room.user if room.password else "",
            "auth_pass": room.password,
        }
        words = "".join(f";{key}={value}" for key, value in parameters.items() if value)
        return f"<sip:{room.user}@{host};transport={room.transport}>{words}"

    def _settings(self) -> dict[str, str]:
        room = self.room
        certificate = {"sip_certificate": str(room.certificate)} if room.certificate else {}
        return {
            "poll_method": "epoll",
            "sip_listen": f"{room.host}:{self.sip_port}",
            **certificate,
            "sip_trans_def": room.transport,
            "call_local_timeout": "60",
            "call_max_calls": "4",
            "audio_source": f"aufile,{self.folder / 'tone.wav'}",
            "audio_player": "aubridge,nil",
            "audio_alert": "aubridge,nil",
            "ausrc_srate": str(SOURCE_RATE),
            "ausrc_channels": "1",
            "audio_channels": "1-2",
            "audio_level": "no",
            "snd_path": str(self.folder),
            "ausrc_format": "s16",
            "auplay_format": "s16",
            "auenc_format": "s16",
            "audec_format": "s16",
            "video_source": f"avformat,{self.folder / 'picture.mp4'}",
            "video_display": "fakevideo,nil",
            "video_size": f"{room.width}x{room.height}",
            "video_bitrate": str(room.video_bit_rate),
            "video_fps": f"{room.rate}.00",
            "videnc_format": "yuv420p",
            "rtp_ports": f"{self._rtp}-{self._rtp + 39}",
            "rtcp_mux": "no",
            "jitter_buffer_delay": "5-10",
            "rtp_stats": "yes",
            "module_path": MODULES,
            "module_tmp": "uuid.so",
            "ctrl_tcp_listen": f"127.0.0.1:{self._control_port}",
            "avcodec_h264enc": "libx264",
            "avcodec_h264dec": "h264",
            "opus_bitrate": "28000",
            "opus_stereo": "no",
        }
