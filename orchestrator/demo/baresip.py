"""baresip (Debian's 1.0) as the room: no devices, one colour, one tone, for as long as it is wanted.

What its configuration has to mind: an avformat source needs a file of video alone without B frames, and
stops at its end (so it gets a list that names the file again and again); `ausine` is always stereo at
48 kHz; `-n` takes the address to use; stdio.so would read our terminal; a dialled URI must not repeat the
account's transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from PIL import Image

from media.codecs import VideoCodec, VideoTarget
from orchestrator.demo.glimpse import Glimpse, spectrum
from orchestrator.demo.process import Program
from orchestrator.demo.role import Role, RoomFailed
from orchestrator.demo.terminal.footage import Footage
from orchestrator.demo.terminal.reels import Shot, film
from orchestrator.demo.terminal.senses import Spectrum

MODULES = Path("/usr/lib/baresip/modules")
CODECS = ("g711", "opus", "avcodec")
DEVICES = ("avformat", "fakevideo", "ausine", "aubridge", "swscale", "snapshot")
APPLICATIONS = ("contact", "debug_cmd", "menu", "ctrl_tcp")
SOURCE_SECONDS = 4
SOURCE_REPEATS = 50_000
"""Of the list: more than two days."""
CALL_SECONDS = 15.0
ANSWER_SECONDS = 5.0
PICTURE_SECONDS = 3.0
HEARD_SECONDS = 1.0
COARSE = 8
_DISPLAY = re.compile(r"vidisp: \S+ (\d+) x (\d+) frames=(\d+)")


def baresip_installed() -> bool:
    return shutil.which("baresip") is not None and (MODULES / "avcodec.so").is_file()


class Baresip:
    """A Room. What it plays and shows lies in `folder`."""

    program = "baresip"

    def __init__(self, folder: Path, role: Role, *, listening: bool) -> None:
        self._folder = folder
        self._role = role
        self._listening = listening
        self._stack = contextlib.AsyncExitStack()
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._tokens = itertools.count()
        self._established = asyncio.Event()
        self._closed: str | None = None

    async def __aenter__(self) -> Self:
        shutil.rmtree(self._folder, ignore_errors=True)  # what it heard in earlier runs
        self._folder.mkdir(parents=True)
        self._sip_port, self._control_port = _free_ports(self._role.address)
        await asyncio.to_thread(self._write_files)
        command = ["baresip", "-s", "-f", str(self._folder), "-n", self._role.address]
        try:
            self._process = await Program.start("baresip", command, self._folder)
            self._stack.push_async_callback(self._process.aclose)
            reader, self._writer = await self._connect()
            reading = asyncio.create_task(self._read(reader), name="demo.baresip")
            self._stack.push_async_callback(self._end, reading)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALL_SECONDS):
                while self._process.running:
                    with contextlib.suppress(OSError):
                        return await asyncio.open_connection("127.0.0.1", self._control_port)
                    await asyncio.sleep(0.05)
        raise RoomFailed(f"baresip did not start: {self._process.last_words(3)}")

    async def _end(self, reading: asyncio.Task[None]) -> None:
        self._writer.close()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    # --- a room -----------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def address(self) -> str:
        return f"sip:{self._role.user}@{self._role.address}:{self._sip_port}"

    async def dial(self, uri: str) -> None:
        self._closed = None
        self._established.clear()
        await self._command("dial", uri)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await self._established.wait()
        except TimeoutError:
            raise RoomFailed(f"baresip called {uri} and got no answer in {CALL_SECONDS:g} s") from None
        if self._closed is not None:
            raise RoomFailed(f"baresip called {uri}: {self._closed}")

    def peaks(self) -> tuple[int, int] | None:
        return None

    async def glimpse(self) -> Glimpse:
        """The next picture that it decodes, and the last second of what it heard."""
        shown = _DISPLAY.search(await self._command("video_debug"))
        width, height, frames = map(int, shown.groups()) if shown else (0, 0, 0)
        pixels = await self._snapshot()
        size = (width, height) if frames else None
        return Glimpse(frames, size, pixels, await asyncio.to_thread(self._heard))

    async def _snapshot(self) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]] | None:
        path = self._folder / "seen.png"
        path.unlink(missing_ok=True)
        await self._command("snapshot_recv", str(path))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PICTURE_SECONDS):
                while True:
                    # not there, or not whole yet
                    with contextlib.suppress(OSError, SyntaxError), Image.open(path) as image:
                        return np.asarray(image.convert("RGB").reduce(COARSE), np.uint8)
                    await asyncio.sleep(0.05)
        return None

    def _heard(self) -> Spectrum | None:
        files = sorted(self._folder.glob("dump-*-dec.wav"), key=lambda path: path.stat().st_mtime_ns)
        return _last_second(files[-1]) if files else None

    # --- ctrl_tcp: JSON objects in netstrings -------------------------------------------------------

    async def _read(self, reader: asyncio.StreamReader) -> None:
        async for message in _messages(reader):
            if message.get("event"):
                self._take_event(str(message.get("type", "")), str(message.get("param", "")))
            elif (future := self._waiting.pop(str(message.get("token")), None)) and not future.done():
                future.set_result(message)

    def _take_event(self, kind: str, parameter: str) -> None:
        if kind == "CALL_CLOSED":
            self._closed = parameter or "the call ended"
        if kind in ("CALL_ESTABLISHED", "CALL_CLOSED"):
            self._established.set()

    async def _command(self, name: str, parameters: str = "") -> str:
        """Its answer's text. Raises RoomFailed."""
        token = str(next(self._tokens))
        future = self._waiting[token] = asyncio.get_running_loop().create_future()
        body = json.dumps({"command": name, "params": parameters, "token": token}).encode()
        self._writer.write(b"%d:%b," % (len(body), body))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await future
        except TimeoutError:
            raise RoomFailed(f"baresip did not answer {name!r}") from None
        finally:
            self._waiting.pop(token, None)
        if not answer.get("ok"):
            raise RoomFailed(f"baresip refused {name} {parameters}: {answer.get('data')}")
        return str(answer.get("data", ""))

    # --- its files ----------------------------------------------------------------------------------

    def _write_files(self) -> None:
        role, folder = self._role, self._folder
        footage = Footage(role.colour, role.width, role.height, role.detail)
        write_video(folder / "picture.mp4", footage, role.fps, 2 * role.bitrate)
        entry = f"file picture.mp4\nduration {SOURCE_SECONDS}\n"
        (folder / "picture.ffconcat").write_text("ffconcat version 1.0\n" + entry * SOURCE_REPEATS)
        account = f"<sip:{role.user}@{role.address}:{self._sip_port};transport=udp>;regint=0;answermode=auto"
        account += f";audio_codecs=PCMA/8000/1,PCMU/8000/1;video_codecs=H264;auth_user={role.user}"
        (folder / "accounts").write_text(f"{account};auth_pass={role.password}\n")
        (folder / "accounts").chmod(0o600)
        (folder / "contacts").write_text("")
        lines = "".join(f"{key} {value}\n" for key, value in self._settings().items())
        ears = ("sndfile",) if self._listening else ()
        modules = "".join(f"module {name}.so\n" for name in (*CODECS, *DEVICES, *ears, "uuid"))
        applications = "".join(f"module_app {name}.so\n" for name in APPLICATIONS)
        (folder / "config").write_text(f"{lines}{modules}module_tmp account.so\n{applications}")

    def _settings(self) -> dict[str, str]:
        role = self._role
        first, last = role.rtp_ports
        return {
            "poll_method": "epoll",
            "sip_listen": f"{role.address}:{self._sip_port}",
            "sip_trans_def": "udp",
            "call_local_timeout": "60",
            "call_max_calls": "2",
            "audio_source": f"ausine,{round(role.tone_hz)}",
            "audio_player": "aubridge,nil",
            "audio_alert": "aubridge,nil",
            "ausrc_srate": "48000",
            "ausrc_channels": "2",
            "audio_channels": "1-2",
            "audio_level": "no",
            "snd_path": str(self._folder),
            "ausrc_format": "s16",
            "auplay_format": "s16",
            "auenc_format": "s16",
            "audec_format": "s16",
            "video_source": f"avformat,{self._folder / 'picture.ffconcat'}",
            "video_display": "fakevideo,nil",
            "video_size": f"{role.width}x{role.height}",
            "video_bitrate": str(role.bitrate),
            "video_fps": f"{role.fps}.00",
            "videnc_format": "yuv420p",
            "rtp_ports": f"{first}-{last}",
            "rtcp_mux": "no",
            "jitter_buffer_delay": "5-10",
            "module_path": str(MODULES),
            "ctrl_tcp_listen": f"127.0.0.1:{self._control_port}",
            "avcodec_h264enc": "libx264",
            "avcodec_h264dec": "h264",
        }


def write_video(path: Path, footage: Footage, fps: int, bitrate: int) -> None:
    """Video alone, baseline, that can be played again from its start without a seam."""
    target = VideoTarget(VideoCodec.H264, footage.width, footage.height, fps, bitrate)
    reel = film(Shot(footage, target, SOURCE_SECONDS * fps))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = footage.width, footage.height, "yuv420p"
        for number, frame in enumerate(reel):
            packet = av.Packet(frame.data)
            packet.stream, packet.time_base = stream, Fraction(1, fps)
            packet.pts = packet.dts = number
            packet.is_keyframe = frame.keyframe
            container.mux(packet)


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            length = await reader.readuntil(b":")
            body = await reader.readexactly(int(length[:-1]) + 1)
            yield json.loads(body[:-1])


def _last_second(path: Path) -> Spectrum | None:
    """Of a WAV file of 16 bits that is still being written: its header knows no length yet."""
    with path.open("rb") as file:
        head = file.read(4096)
        kind, data = head.find(b"fmt "), head.find(b"data")
        if kind < 0 or data < 0:
            return None
        channels, rate = (
            int.from_bytes(head[kind + at : kind + at + size], "little") for at, size in ((10, 2), (12, 4))
        )
        frame = 2 * channels
        whole = (path.stat().st_size - data - 8) // frame
        wanted = min(whole, round(HEARD_SECONDS * rate))
        file.seek(data + 8 + (whole - wanted) * frame)
        samples = np.frombuffer(file.read(wanted * frame), "<i2").reshape(-1, channels)
    return spectrum(samples.mean(axis=1).astype(np.int16), rate)


def _free_ports(address: str) -> Iterator[int]:
    """Two that nobody has now: SIP's (UDP and TCP) and that of ctrl_tcp."""
    with contextlib.ExitStack() as stack:
        for host in (address, "127.0.0.1"):
            while True:
                tcp = stack.enter_context(socket.socket())
                udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                tcp.bind((host, 0))
                with contextlib.suppress(OSError):
                    udp.bind((host, tcp.getsockname()[1]))
                    break
            yield tcp.getsockname()[1]
