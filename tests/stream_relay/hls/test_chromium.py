"""Parts of a broadcast in a browser's Media Source, which is what hls.js feeds."""

import asyncio

from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import async_playwright

from foundation.clock import FakeClock
from media.packet import Format
from media.stream import Stream
from stream_relay.hls.channel import Channel
from stream_relay.hls.http_hls import hls_routes
from stream_relay.hls.live_broadcast import LiveBroadcast
from tests.media.coded_pictures import BLUE, GREEN, RED, coded, sound
from tests.peers.requirement import requires, which

SEEN = """async moments => {
    const base = "/live/programme/";
    const text = async name => (await fetch(base + name)).text();
    const codecs = (await text("index.m3u8")).match(/CODECS="([^"]+)"/)[1];
    const video = document.createElement("video");
    video.muted = true;
    document.body.append(video);
    const source = new MediaSource();
    const once = (target, name) => new Promise(done => target.addEventListener(name, done, {once: true}));
    const opened = once(source, "sourceopen");
    video.src = URL.createObjectURL(source);
    await opened;
    const buffer = source.addSourceBuffer(`video/mp4; codecs="${codecs}"`);
    const playlist = await text("media.m3u8");
    const names = [...playlist.matchAll(/PART:DURATION=[^"]*"([^"]+)"/g)].map(found => found[1]);
    for (const name of ["init-0.mp4", ...names]) {
        const updated = once(buffer, "updateend");
        buffer.appendBuffer(await (await fetch(base + name)).arrayBuffer());
        await updated;
    }
    if (video.readyState < 2) await once(video, "loadeddata");  // a seek before that has no end of its own
    const canvas = document.createElement("canvas");
    const drawing = canvas.getContext("2d");
    const colours = [];
    for (const [moment, meant] of moments) {
        video.currentTime = moment;
        let pixel = [];
        for (let look = 0; look < 100; look++) {  // the drawn frame may lag behind "seeked"
            await new Promise(done => setTimeout(done, 50));
            [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
            drawing.drawImage(video, 0, 0);
            pixel = [...drawing.getImageData(80, 48, 1, 1).data.slice(0, 3)];
            if (!video.seeking && pixel.indexOf(Math.max(...pixel)) === meant) break;
        }
        colours.push(pixel);
    }
    return {colours, ranges: buffer.buffered.length, end: buffer.buffered.end(0), parts: names.length};
}"""


@requires("chromium")
async def test_parts_play_in_a_media_source() -> None:
    """B-frames and Opus, appended part by part: one unbroken range, colours at their times."""
    channel = Channel("programme", FakeClock())
    live = channel.live = LiveBroadcast(FakeClock())  # numbered from 0
    video, tone = Stream("programme", Format("H264", 90_000)), Stream("s", Format("OPUS", 48_000, 2))
    running = asyncio.create_task(live.run(video, tone))
    await asyncio.sleep(0)
    packets = coded([RED] * 50 + [GREEN] * 50 + [BLUE] * 50, gop=50, b_frames=2)
    heard, _ = sound("libopus", 6.0)
    for packet in sorted([*packets, *heard], key=lambda one: one.arrival):
        (video if packet in packets else tone).publish(packet)
        await asyncio.sleep(0)
    video.close()
    await running

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><body>", content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/", page), *hls_routes({"programme": channel}.get)])
    async with TestServer(app) as server, async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        tab = await browser.new_page()
        await tab.goto(str(server.make_url("/")))
        seen = await asyncio.wait_for(tab.evaluate(SEEN, [[5.0, 2], [1.0, 0], [2.52, 1]]), 30)
        await browser.close()
    assert [colour.index(max(colour)) for colour in seen["colours"]] == [2, 0, 1]
    assert (seen["ranges"], round(seen["end"], 1)) == (1, 6.0)
    assert seen["parts"] >= 12
