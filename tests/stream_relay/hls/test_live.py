"""A stream over HTTP: blocking reload, hinted parts, and ffmpeg as the player."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from foundation.clock import FakeClock
from media.packet import Format, Packet
from media.stream import Stream
from stream_relay.hls import live_broadcast
from stream_relay.hls.channel import Channel
from stream_relay.hls.http_hls import hls_routes
from stream_relay.hls.live_broadcast import LiveBroadcast
from tests.media.coded_pictures import BLUE, GREEN, RED, coded, sound
from tests.peers.ffmpeg import run_ffmpeg
from tests.peers.requirement import requires

H264 = Format("H264", 90_000)


class Site:
    """A broadcast "programme" that is fed by hand."""

    def __init__(self, channel: Channel, client: TestClient) -> None:  # type: ignore[type-arg]  # aiohttp's own default
        self.channel, self.live, self.client = channel, channel.live, client
        self.video = Stream("programme", H264)
        self.sound = Stream("programme.sound", Format("OPUS", 48_000, 2))
        self.running: asyncio.Task[None]

    async def get(self, name: str) -> tuple[int, str]:
        async with self.client.get(f"/live/programme/{name}") as answer:
            return answer.status, await answer.text()

    async def bytes(self, name: str) -> bytes:
        async with self.client.get(f"/live/programme/{name}") as answer:
            assert answer.status == 200, name
            return await answer.read()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    channel = Channel("安全生产例会", FakeClock())
    channel.live = LiveBroadcast(FakeClock())  # numbered from 0
    app = web.Application()
    app.add_routes(hls_routes({"programme": channel}.get))
    async with TestClient(TestServer(app)) as client:
        site = Site(channel, client)
        running = site.running = asyncio.create_task(channel.live.run(site.video, site.sound))
        await asyncio.sleep(0)
        yield site
        site.video.close()
        await running


async def settle(site: Site, published: int) -> None:
    while site.live.counts.taken < published:  # noqa: ASYNC110 - the broadcast has no event for a frame taken
        await asyncio.sleep(0)


async def test_a_blocking_request_returns_as_its_part_appears(site: Site) -> None:
    packets = coded([RED] * 60)
    for packet in packets[:20]:
        site.video.publish(packet)
    await settle(site, 20)
    assert site.live.playlist.next_part == (0, 1)
    waiting = asyncio.create_task(site.get("media.m3u8?_HLS_msn=0&_HLS_part=1"))
    hinted = asyncio.create_task(site.bytes("part-0.1.m4s"))
    while site.live.waiting < 2:  # noqa: ASYNC110 - both requests are on their way
        await asyncio.sleep(0.001)
    site.video.publish(packets[20])
    await settle(site, 21)
    assert not waiting.done()
    for packet in packets[21:26]:
        site.video.publish(packet)
    status, text = await asyncio.wait_for(waiting, 2)
    assert status == 200
    assert '#EXT-X-PART:DURATION=0.48000,URI="part-0.0.m4s",INDEPENDENT=YES\n' in text
    assert 'URI="part-0.1.m4s"' in text
    assert (await asyncio.wait_for(hinted, 2))[4:8] == b"moof"
    assert site.live.waiting == 0


async def test_every_part_is_at_most_half_a_second_and_the_segment_is_its_parts(site: Site) -> None:
    for packet in coded([RED] * 150, gop=60):
        site.video.publish(packet)
    await settle(site, 150)
    _, text = await site.get("media.m3u8")
    durations = [float(one) for one in re.findall(r"PART:DURATION=([\d.]+)", text)]
    assert max(durations) <= 0.5
    assert re.findall(r"#EXTINF:([\d.]+)", text) == ["2.40000", "2.40000"]
    names = re.findall(r"part-0\.\d+\.m4s", text)
    assert b"".join([await site.bytes(name) for name in names]) == await site.bytes("seg-0.m4s")


@pytest.mark.parametrize("gop", [1, 7, 12, 25, 30, 50, 63])
async def test_key_frames_at_any_distance_make_no_part_too_short(site: Site, gop: int) -> None:
    """RFC 8216bis 4.4.3.7: 85 % of the part target at the least, but for a segment's last part; and segments
    still begin at key frames."""
    key, delta = coded([RED] * 2)
    for number in range(250):
        of = delta if number % gop else key
        site.video.publish(Packet(of.data, number * 3600, 100 + number / 25, not number % gop))
    await settle(site, 250)
    text = site.live.playlist.render()
    lines = [one for one in text.splitlines() if one.startswith(("#EXT-X-PART:", "#EXTINF"))]
    last = len(lines) - 1
    for number, line in enumerate(lines):
        if not line.startswith("#EXT-X-PART:") or number == last or lines[number + 1].startswith("#EXTINF"):
            continue
        assert 0.425 <= float(line.split("=")[1].split(",")[0]) <= 0.5
    segments = [float(one) for one in re.findall(r"#EXTINF:([\d.]+)", text)]
    assert segments
    assert all(1.7 <= one <= 4 for one in segments)
    begins = re.findall(r"EXT-X-PART:.*part-\d+\.0\.m4s\"(.*)", text)
    assert set(begins) == {",INDEPENDENT=YES"}


async def test_a_source_without_key_frames_is_asked_and_cut_all_the_same(site: Site) -> None:
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1

    site.video._on_keyframe_wanted = ask
    for packet in coded([RED] * 150, gop=250):
        site.video.publish(packet)
    await settle(site, 150)
    assert asked > 0
    _, text = await site.get("media.m3u8")
    assert re.findall(r"#EXTINF:([\d.]+)", text) == ["3.84000"]


async def test_bad_requests_are_answered_clearly(site: Site) -> None:
    for packet in coded([RED] * 60):
        site.video.publish(packet)
    await settle(site, 60)
    assert await site.get("media.m3u8?_HLS_msn=99") == (400, "segment 99 is too far in the future")
    assert (await site.get("media.m3u8?_HLS_msn=x"))[0] == 400
    assert (await site.get("media.m3u8?_HLS_part=1"))[0] == 400
    assert (await site.get("seg-77.m4s"))[0] == 404
    assert (await site.get("part-0.99.m4s"))[0] == 404
    assert (await site.get("init-9.mp4"))[0] == 404
    async with site.client.get("/live/other/index.m3u8") as answer:
        assert answer.status == 404


async def test_a_crowd_beyond_the_bound_is_told_to_come_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_broadcast, "WAITING", 1)
    waiting = asyncio.create_task(site.get("media.m3u8"))
    while not site.live.waiting:  # noqa: ASYNC110 - the request is on its way
        await asyncio.sleep(0.001)
    async with site.client.get("/live/programme/media.m3u8") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    for packet in coded([RED] * 20):
        site.video.publish(packet)
    assert (await asyncio.wait_for(waiting, 2))[0] == 200


async def test_a_source_that_stalls_is_not_waited_for_for_ever(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_broadcast, "TARGET_DURATION", 0.01)
    assert await site.get("media.m3u8") == (503, "the broadcast has nothing new")
    assert site.live.waiting == 0


async def test_a_broadcast_that_is_stopped_releases_who_waits_and_shows_nothing_more(site: Site) -> None:
    for packet in coded([RED] * 20):
        site.video.publish(packet)
    await settle(site, 20)
    waiting = asyncio.create_task(site.get("media.m3u8?_HLS_msn=1&_HLS_part=0"))
    hinted = asyncio.create_task(site.get("part-0.1.m4s"))
    while site.live.waiting < 2:  # noqa: ASYNC110 - the requests are on their way
        await asyncio.sleep(0.001)
    site.channel.stop()
    status, text = await asyncio.wait_for(waiting, 2)
    assert (status, text.splitlines()[-1]) == (200, "#EXT-X-ENDLIST")
    assert (await asyncio.wait_for(hinted, 2))[0] == 410
    for name in ("index.m3u8", "init-0.mp4", "part-0.0.m4s", "seg-0.m4s"):
        assert (await site.get(name))[0] == 410, name
    assert (await site.get("media.m3u8"))[1].splitlines()[-1] == "#EXT-X-ENDLIST"
    assert json.loads((await site.get("info.json"))[1])["state"] == "ended"
    assert site.live.playlist.size == 0


async def test_the_next_stream_goes_on_behind_a_discontinuity(site: Site) -> None:
    for packet in coded([RED] * 20):
        site.video.publish(packet)
    await settle(site, 20)
    site.video.close()
    while site.live.playlist.next_part != (1, 0):  # noqa: ASYNC110 - what was left over is listed
        await asyncio.sleep(0)
    before = (await site.get("media.m3u8"))[1]
    waiting = asyncio.create_task(site.get("media.m3u8?_HLS_msn=1&_HLS_part=0"))
    while not site.live.waiting:  # noqa: ASYNC110 - the request is on its way
        await asyncio.sleep(0.001)
    assert "ENDLIST" not in before
    other = Stream("programme", H264)
    running = asyncio.create_task(site.live.run(other, None))
    await asyncio.sleep(0)
    for packet in coded([GREEN] * 30, size=(320, 192), arrival=200.0):
        other.publish(packet)
        await asyncio.sleep(0)
    status, text = await asyncio.wait_for(waiting, 2)
    assert status == 200
    assert '#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI="init-1.mp4"\n' in text
    assert text.index("seg-0.m4s") < text.index("#EXT-X-DISCONTINUITY\n") < text.index("part-1.0.m4s")
    other.close()
    await running


async def test_viewers_behind_one_address_are_told_apart_by_what_the_playlist_gives_them(site: Site) -> None:
    for packet in coded([RED] * 20):
        site.video.publish(packet)
    await settle(site, 20)
    names = []
    for _ in range(3):
        _, text = await site.get("index.m3u8")
        names.append(text.splitlines()[-1])
    assert len(set(names)) == 3
    texts = {(await site.get(name))[1] for name in (*names, *names)}
    assert len(texts) == 1  # the same for everybody: nothing of a viewer is in it
    assert site.channel.viewers.count == 3
    await site.get("media.m3u8")
    await site.get("media.m3u8")
    assert site.channel.viewers.count == 4
    info = json.loads((await site.get("info.json"))[1])
    assert info == {"title": "安全生产例会", "state": "waiting", "viewers": 4, "delay_seconds": 0.0}


async def test_bytes_are_counted_and_other_sites_may_play_it(site: Site) -> None:
    for packet in coded([RED] * 20):
        site.video.publish(packet)
    await settle(site, 20)
    part = await site.bytes("part-0.0.m4s")
    assert site.channel.sent_bytes == len(part)
    for name in ("part-0.0.m4s", "index.m3u8", "nothing.m4s", "seg-99.m4s"):
        async with site.client.get(f"/live/programme/{name}") as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*", name
    async with site.client.options("/live/programme/media.m3u8") as answer:
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, "*")


@requires("ffmpeg")
async def test_ffmpeg_plays_it(site: Site, tmp_path: Path) -> None:
    pictures = coded([RED] * 50 + [GREEN] * 50 + [BLUE] * 50)
    other = coded([RED] * 25, size=(320, 192), start=150 * 3600, arrival=106.0)
    heard, _ = sound("libopus", 7.0)
    packets = [*pictures, *other]
    known = {id(one) for one in packets}
    for packet in sorted([*packets, *heard], key=lambda one: one.arrival):
        (site.video if id(packet) in known else site.sound).publish(packet)
        await asyncio.sleep(0)
    await settle(site, 175)
    site.video.close()
    await site.running
    site.live.end()
    status, text = await site.get("index.m3u8")
    assert status == 200
    assert 'CODECS="avc1.42c0' in text
    assert "RESOLUTION=320x192" in text
    out = tmp_path / "played.mkv"
    address = str(site.client.make_url("/live/programme/index.m3u8"))
    await run_ffmpeg(
        tmp_path, "-y", "-live_start_index", "0", "-i", address, "-c:v", "ffv1", "-c:a", "flac", str(out)
    )
    with av.open(str(out)) as container:
        seen = [
            tuple(int(np.median(part)) for part in np.split(frame.to_ndarray(), [96, 120]))
            for frame in container.decode(video=0)
        ]
    assert len(seen) >= 150
    for number, meant in ((10, RED), (60, GREEN), (140, BLUE)):
        assert all(abs(one - other) <= 6 for one, other in zip(seen[number], meant, strict=True))
    with av.open(str(out)) as container:
        tone = np.concatenate([one.to_ndarray().reshape(-1, 2)[:, 0] for one in container.decode(audio=0)])
    part = tone[48_000:96_000].astype(float)
    assert abs(np.argmax(np.abs(np.fft.rfft(part))) * 48_000 / len(part) - 440) < 3
