"""A camera that is not ours: gst-rtsp-server from Debian, with H.264 and, where asked for, sound."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.peers.process import PeerProcess

PROGRAM = Path(__file__).with_name("gst_camera_program.py")
SOUNDS = {
    "PCMA": "alawenc ! rtppcmapay name=pay1",
    "PCMU": "mulawenc ! rtppcmupay name=pay1",
    "AAC": "audioresample ! audio/x-raw,rate=48000 ! voaacenc ! aacparse ! rtpmp4gpay name=pay1",
}


def pipeline(
    colour: int, *, width: int = 320, height: int = 240, b_frames: int = 0, sound: str | None = None
) -> str:
    """A plain picture of `colour` (0xRRGGBB), 25 a second; `sound` is a key of SOUNDS."""
    profile = "video/x-h264,profile=main ! " if b_frames else ""  # unasked, x264enc makes the baseline's
    video = (
        f"videotestsrc is-live=true pattern=solid-color foreground-color={0xFF000000 | colour} ! "
        f"video/x-raw,format=I420,width={width},height={height},framerate=25/1 ! "
        f"x264enc bframes={b_frames} key-int-max=25 speed-preset=ultrafast threads=1 rc-lookahead=0 ! "
        f"{profile}rtph264pay name=pay0 pt=96 config-interval=-1"
    )
    tone = f"audiotestsrc is-live=true ! audioconvert ! {SOUNDS[sound]}" if sound else ""
    return f"( {video} {tone} )"


@asynccontextmanager
async def gst_camera(
    folder: Path, port: int, launch: str, *login: str, name: str = "gst-camera"
) -> AsyncIterator[PeerProcess]:
    """Served at rtsp://127.0.0.1:PORT/camera; `login` is "basic" or "digest", user, password."""
    command = ["/usr/bin/python3", str(PROGRAM), "127.0.0.1", str(port), launch, *login]
    process = await PeerProcess.start(name, command, folder)
    try:
        await process.listening("127.0.0.1", port)
        yield process
    finally:
        await process.aclose()
