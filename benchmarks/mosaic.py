"""Nine 720p25 H.264 sources -> 3x3 mosaic -> H.264 720p25 at 3 Mbit/s: decode, compose, encode in one go.

CPU seconds for each second of media, against the ffmpeg command (xstack) and GStreamer (compositor) that read
the same files, scale to the same tiles and encode with the same x264 settings on the same number of threads.
Each is measured three times in turn and the best run counts: other work on the machine only ever adds.

A second class of the same mosaic costs its scaling and its encoder: 360p against the ffmpeg command that
encodes raw pictures of that size with the same x264 settings.
"""

from __future__ import annotations

import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import av

from benchmarks.result import Result
from mcu_bridge.layouts import GRID_3X3
from mcu_bridge.video_composer import VideoComposer, scaled
from media.codec_worker import CodecPool, Lane, LatestInbox, OldestInbox
from media.codecs import CLOCK, VideoCodec, VideoDecoder, VideoEncoder, VideoTarget
from media.packet import Packet
from media.picture import Picture

SECONDS = 8
FPS = 25
WIDTH, HEIGHT = 1280, 720
BITRATE = 3_000_000
ROUNDS = 3
BUFFER = BITRATE // FPS
SOURCES = 9
WAIT = 30.0


SECOND = (640, 360)
SECOND_BITRATE = 600_000
HELD = 100
"""Pictures of the mosaic kept in memory for the second class."""


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory(prefix="anshi-bench-") as made:
        folder = Path(made)
        files = make_sources(folder)
        ffmpeg_out, gstreamer_out = folder / "ffmpeg.mp4", folder / "gstreamer.h264"
        decoder = gstreamer_decoder()
        ours = ffmpeg = gstreamer = float("inf")
        for _ in range(ROUNDS):
            ours = min(ours, own_cpu(lambda: mosaic(files)) / SECONDS)
            ffmpeg = min(ffmpeg, child_cpu(ffmpeg_command(files, ffmpeg_out)) / SECONDS)
            gstreamer = min(gstreamer, child_cpu(gstreamer_command(files, gstreamer_out, decoder)) / SECONDS)
        check_frames(ffmpeg_out)
        check_frames(gstreamer_out)
        name, unit = "mosaic 9x720p", "CPU s / s"
        like = decoder == "avdec_h264"  # another decoder than ours and ffmpeg's: the row is for information
        yield Result.against(name, ours, unit, peer="ffmpeg xstack", peer_value=ffmpeg, at_most=1.10)
        yield Result.against(
            name,
            ours,
            unit,
            peer=f"GStreamer compositor, {decoder}",
            peer_value=gstreamer,
            at_most=0.85 if like else None,
        )
        second, bare = second_class(ffmpeg_out, folder)
        yield Result.against(
            "second class of a mosaic, 360p",
            second,
            unit,
            peer="bare x264, ffmpeg",
            peer_value=bare,
            at_most=1.2,
        )


def make_sources(folder: Path) -> list[Path]:
    """Moving, textured pictures, each different, as a room terminal would send them: baseline, 2 Mbit/s."""
    files = []
    for n in range(SOURCES):
        path = folder / f"source{n}.mp4"
        picture = (
            f"testsrc2=size={WIDTH}x{HEIGHT}:rate={FPS}:duration={SECONDS},hue=h={n * 40},noise=alls=5:allf=t"
        )
        command = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p"]
        command += [
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-tune",
            "zerolatency",
            "-profile:v",
            "baseline",
        ]
        command += ["-b:v", "2M", "-maxrate", "2M", "-bufsize", "400k", "-g", "250", str(path)]
        subprocess.run(command, check=True)
        files.append(path)
    return files


def mosaic(files: Sequence[Path]) -> None:
    """The product's own parts, joined as a conference joins them, as fast as they go."""
    pool = CodecPool(2, name="mosaic")
    composer = VideoComposer(WIDTH, HEIGHT)
    composer.arrange(GRID_3X3, [path.stem for path in files])
    encoder = VideoEncoder(VideoTarget(VideoCodec.H264, WIDTH, HEIGHT, FPS, BITRATE))
    made: list[Packet] = []

    def compose(time: int) -> list[Packet]:
        picture = composer.compose(time)
        return encoder.encode(picture) if picture else []

    output = pool.lane(compose, inbox=LatestInbox[int](), deliver=made.extend)
    inputs = [decoding_lane(pool, composer, path.stem) for path in files]
    lanes: list[Lane[Packet, Picture] | Lane[int, Packet]] = [*inputs, output]
    for n, packets in enumerate(zip(*map(packets_of, files), strict=True)):
        for lane, packet in zip(inputs, packets, strict=True):
            lane.put(packet)
        if not all(lane.drain(WAIT) for lane in lanes):
            raise RuntimeError(f"the mosaic stood still at picture {n}")
        output.put(n * CLOCK // FPS)
    output.drain(WAIT)
    pool.close()
    if len(made) != SECONDS * FPS or composer.counts.drawn != SECONDS * FPS * SOURCES:
        raise RuntimeError(f"{len(made)} pictures came of {composer.counts.drawn} drawn tiles")


def decoding_lane(pool: CodecPool, composer: VideoComposer, site: str) -> Lane[Packet, Picture]:
    def show(pictures: Sequence[Picture]) -> None:
        composer.show(site, pictures[-1])

    return pool.lane(VideoDecoder(VideoCodec.H264).decode, inbox=OldestInbox[Packet](8), deliver=show)


def packets_of(path: Path) -> Iterator[Packet]:
    """The file's frames as Annex B byte streams, parameter sets before each key frame."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        annex_b = av.BitStreamFilterContext("h264_mp4toannexb", stream)
        for raw in container.demux(stream):
            for packet in annex_b.filter(raw):
                if packet.size:
                    yield Packet(bytes(packet), int(packet.pts or 0), 0.0, keyframe=packet.is_keyframe)


def ffmpeg_command(files: Sequence[Path], out: Path) -> list[str]:
    command = ["ffmpeg", "-y", "-loglevel", "error", "-filter_complex_threads", "1"]
    for path in files:
        command += ["-threads", "1", "-i", str(path)]
    rects = GRID_3X3.rects(WIDTH, HEIGHT)
    tiles = [f"[{n}:v]scale={rect.width}:{rect.height}:flags=bilinear[t{n}]" for n, rect in enumerate(rects)]
    places = "|".join(f"{rect.x}_{rect.y}" for rect in rects)
    stack = "".join(f"[t{n}]" for n in range(len(rects))) + f"xstack=inputs={len(rects)}:layout={places}[out]"
    command += ["-filter_complex", ";".join([*tiles, stack]), "-map", "[out]", "-c:v", "libx264"]
    command += ["-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline", "-threads", "1"]
    return [*command, "-b:v", str(BITRATE), "-maxrate", str(BITRATE), "-bufsize", str(BUFFER), str(out)]


def gstreamer_decoder() -> str:
    """libav's decoder, which Debian packs in gstreamer1.0-libav, else Cisco's."""
    asked = subprocess.run(["gst-inspect-1.0", "--exists", "avdec_h264"], check=False)
    return "avdec_h264" if asked.returncode == 0 else "openh264dec"


def gstreamer_command(files: Sequence[Path], out: Path, decoder: str) -> list[str]:
    rects = GRID_3X3.rects(WIDTH, HEIGHT)
    command = ["gst-launch-1.0", "-q", "compositor", "name=mix", "background=black"]
    for n, rect in enumerate(rects):
        command += [f"sink_{n}::xpos={rect.x}", f"sink_{n}::ypos={rect.y}"]
        command += [f"sink_{n}::width={rect.width}", f"sink_{n}::height={rect.height}"]
    command += ["!", f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={FPS}/1", "!"]
    command += ["x264enc", "speed-preset=ultrafast", "tune=zerolatency", f"bitrate={BITRATE // 1000}"]
    command += ["threads=1", "sliced-threads=false", "vbv-buf-capacity=40", "key-int-max=250", "!"]
    command += ["video/x-h264,profile=baseline,stream-format=byte-stream", "!", "filesink", f"location={out}"]
    for n, path in enumerate(files):
        command += ["filesrc", f"location={path}", "!", "qtdemux", "!", "h264parse", "!"]
        command += [decoder, *(["max-threads=1"] if decoder == "avdec_h264" else [])]
        command += ["!", "queue", "!", f"mix.sink_{n}"]
    return command


def second_class(mosaic: Path, folder: Path) -> tuple[float, float]:
    """CPU seconds a second of the class and of its bare encoder."""
    decoder = VideoDecoder(VideoCodec.H264)
    decoded = (picture for packet in packets_of(mosaic) for picture in decoder.decode(packet))
    pictures = list(islice(decoded, HELD))
    raw, out = folder / "second.yuv", folder / "second.mp4"
    with raw.open("wb") as file:
        for picture in (*pictures, *pictures):
            for plane in scaled(picture, *SECOND).planes:
                file.write(plane.tobytes())
    ours = bare = float("inf")
    for _ in range(ROUNDS):
        ours = min(ours, own_cpu(lambda: encode_second(pictures)) / SECONDS)
        bare = min(bare, child_cpu(bare_command(raw, out)) / SECONDS)
    check_frames(out)
    return ours, bare


def encode_second(pictures: Sequence[Picture]) -> None:
    """As the encoder of a class does with each picture that its screen hands it."""
    encoder = VideoEncoder(VideoTarget(VideoCodec.H264, *SECOND, FPS, SECOND_BITRATE))
    pool = CodecPool(1, name="second")
    made: list[Packet] = []
    lane = pool.lane(
        lambda picture: encoder.encode(scaled(picture, *SECOND)),
        inbox=OldestInbox[Picture](SECONDS * FPS),
        deliver=made.extend,
    )
    for picture in (*pictures, *pictures):
        lane.put(picture)
    lane.drain(WAIT)
    pool.close()
    if len(made) != SECONDS * FPS:
        raise RuntimeError(f"{len(made)} pictures of the second class came")


def bare_command(raw: Path, out: Path) -> list[str]:
    command = ["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p"]
    command += ["-video_size", f"{SECOND[0]}x{SECOND[1]}", "-framerate", str(FPS), "-i", str(raw)]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline"]
    command += ["-threads", "1", "-b:v", str(SECOND_BITRATE), "-maxrate", str(SECOND_BITRATE)]
    return [*command, "-bufsize", str(SECOND_BITRATE // FPS), str(out)]


def own_cpu(work: Callable[[], None]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def child_cpu(command: Sequence[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def check_frames(path: Path) -> None:
    """A peer that dropped pictures has measured nothing."""
    with av.open(path) as container:
        count = sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)
    if abs(count - SECONDS * FPS) > 2:
        raise RuntimeError(f"{path.name} holds {count} pictures, not {SECONDS * FPS}")
