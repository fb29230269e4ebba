"""A camera's stream becomes samples; its loss becomes a value; overload is said."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import pytest_asyncio

from analytics.detection import Bgr, Sample, Seen, StreamLost
from analytics.detector import Detector
from analytics.inference import InferencePool
from analytics.model_package import ModelPackage
from analytics.sampler import Sampler, SamplerSettings, SamplerState
from foundation.tasks import Backoff
from media.codec_worker import CodecPool
from media.packet import Format, Packet
from media.stream import Stream
from media.stream_source import StreamUnavailable
from tests.analytics.coded_clip import CLOCK, Cameras, coded, grey, over_again
from tests.peers.requirement import requires
from tests.peers.waiting import until_true

NAME = "camera:7"


@pytest_asyncio.fixture
async def pools(nanodet: ModelPackage) -> AsyncIterator[tuple[CodecPool, InferencePool]]:
    decoding, inference = CodecPool(1, "decoding"), await InferencePool.open(nanodet, 1)
    yield decoding, inference
    await inference.aclose()
    await decoding.aclose()


def sampler(
    source: Cameras,
    pools: tuple[CodecPool, InferencePool],
    camera_id: str = "7",
    *,
    rate: float = 1.0,
    silence: float = 10.0,
    forced_look: float = 5.0,
) -> Sampler:
    settings = SamplerSettings(rate, forced_look, silence)
    return Sampler(camera_id, source, *pools, settings, backoff=Backoff(first=0.01, limit=0.02))


async def first(running: Sampler, count: int) -> list[Seen]:
    seen: list[Seen] = []
    async with asyncio.timeout(20):
        async for one in running:
            seen.append(one)
            if len(seen) == count:
                break
    return seen


def still(seconds: int) -> list[Packet]:
    """A scene in which nothing moves, a key frame each second."""
    picture = np.random.default_rng(3).integers(0, 255, (48, 64, 3), np.uint8)
    return coded([picture] * (25 * seconds), gop=25)


@requires("opencv-doc")
async def test_people_are_seen_once_a_second_with_the_picture_they_are_in(
    clip: Mapping[int, Bgr], pools: tuple[CodecPool, InferencePool]
) -> None:
    packets = coded([clip[n] for n in range(0, 500, 10)], fps=10, gop=10)
    async with sampler(Cameras({NAME: [packets]}, pace=2.0), pools, rate=2.0) as running:
        seen = await first(running, 8)
        status = running.status()
    samples = [one for one in seen if isinstance(one, Sample)]
    assert len(samples) == 8
    for before, after in itertools.pairwise(samples):
        assert after.pts - before.pts == pytest.approx(0.5, abs=0.11)
    for sample in samples:
        assert sample.camera_id == "7"
        assert sample.picture.shape == (576, 768, 3)
        assert sample.moved
        assert sample.detections is not None
        assert sum(one.label == "person" for one in sample.detections) >= 1
        assert abs(datetime.now(UTC) - sample.at) < timedelta(seconds=20)
        original = clip[round(sample.pts * 10) * 10]
        assert np.abs(sample.picture.astype(int) - original).mean() < 6
    assert status.state is SamplerState.WATCHING
    assert status.samples >= status.inferences >= 8
    assert status.wanted_rate == 2.0
    assert status.last_sample_ago is not None


async def test_where_nothing_moves_the_detector_looks_only_now_and_then(
    pools: tuple[CodecPool, InferencePool],
) -> None:
    async with sampler(Cameras({NAME: [still(10)]}, pace=10.0), pools, forced_look=3.0) as running:
        seen = [one for one in await first(running, 9) if isinstance(one, Sample)]
    looked = [round(one.pts) for one in seen if one.detections is not None]
    assert looked == [0, 3, 6]
    assert [one.moved for one in seen] == [True] + [False] * 8


async def test_a_lost_camera_is_said_with_the_reason_and_seen_again(
    pools: tuple[CodecPool, InferencePool],
) -> None:
    refused = StreamUnavailable("the camera at 10.0.0.7 refused our password")
    source = Cameras({NAME: [refused, still(3), refused, still(3)]}, pace=20.0)
    async with sampler(source, pools) as running:
        seen: list[Seen] = []
        async with asyncio.timeout(20):
            async for one in running:
                seen.append(one)
                if isinstance(one, StreamLost) and one.reason == "the play is over":
                    break
        assert running.status().state is SamplerState.FAILED
        assert running.status().detail == "the play is over"
    reasons = [one.reason if isinstance(one, StreamLost) else "seen" for one in seen]
    gist = [reason for n, reason in enumerate(reasons) if n == 0 or reason != reasons[n - 1]]
    ended = "the stream ended"
    assert gist == [str(refused), "seen", ended, str(refused), "seen", ended, "the play is over"]
    again = [one for one in seen if isinstance(one, StreamLost) and one.reason == str(refused)][-1]
    last = [one for one in seen[: seen.index(again)] if isinstance(one, Sample)][-1]
    assert again.since == last.arrival
    assert again.arrival > again.since
    assert source.held == 0


async def test_a_camera_that_nobody_knows_is_said_to_be_unknown(
    pools: tuple[CodecPool, InferencePool],
) -> None:
    async with sampler(Cameras({}), pools, "99") as running:
        [lost] = await first(running, 1)
    assert isinstance(lost, StreamLost)
    assert lost.reason == "there is no camera:99"


async def test_a_codec_that_is_not_looked_at_is_named(pools: tuple[CodecPool, InferencePool]) -> None:
    stream = Stream(NAME, Format("AV1", CLOCK))
    async with sampler(Cameras({NAME: [stream]}), pools) as running:
        [lost] = await first(running, 1)
    assert isinstance(lost, StreamLost)
    assert lost.reason.startswith("its pictures are AV1; looked at are H264")


async def test_silence_and_garbage_are_told_apart(pools: tuple[CodecPool, InferencePool]) -> None:
    stream = Stream(NAME, Format("H264", CLOCK))
    async with sampler(Cameras({NAME: [stream]}), pools, silence=0.2) as running:
        [silent] = await first(running, 1)
        stream.publish(Packet(b"\0\0\0\1\x65" + bytes(200), 0, 0.0))
        [garbage] = await first(running, 1)
    assert isinstance(silent, StreamLost)
    assert isinstance(garbage, StreamLost)
    assert silent.reason == "no picture has come for 0.2 s"
    assert garbage.reason == "no whole picture could be decoded for 0.2 s"
    assert garbage.since == silent.since < silent.arrival < garbage.arrival


async def test_a_slow_consumer_gets_the_newest_and_holds_nobody_up(
    pools: tuple[CodecPool, InferencePool],
) -> None:
    async with sampler(Cameras({NAME: [still(12)]}, pace=10.0), pools) as running:
        await until_true(lambda: running.status().undelivered >= 5, "samples nobody took", 20)
        seen = await first(running, 2)
    samples = [one for one in seen if isinstance(one, Sample)]
    assert samples[0].pts > 4.5


async def test_overload_thins_every_camera_alike_and_is_said(
    nanodet: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four cameras want 10 looks a second each of a detector that manages about 12."""
    monkeypatch.setattr("analytics.sampler.WINDOW", 1.5)

    class Slow(Detector):
        def __init__(self) -> None:
            self.package = nanodet

        def detect(self, picture: Bgr) -> tuple[()]:
            pause.wait(0.08)
            return ()

    pause = threading.Event()
    decoding, inference = CodecPool(1, "decoding"), InferencePool([Slow()])
    restless = over_again(coded(grey([20 + 60 * (n % 4) for n in range(25)])), 8)
    ids = [str(n) for n in range(4)]
    source = Cameras({f"camera:{one}": [restless] for one in ids}, pace=1.0)
    running = [
        Sampler(one, source, decoding, inference, SamplerSettings(rate=10.0, forced_look=0.1)) for one in ids
    ]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for one in running:
            await one.__aenter__()
            group.create_task(_drain(one))
        overloaded = SamplerState.OVERLOADED
        await until_true(lambda: all(one.status().state is overloaded for one in running), "overload", 20)
        said = [one.status() for one in running]
        looks = [one.inferences for one in said]
        for one in running:
            await one.aclose()
    await inference.aclose()
    await decoding.aclose()
    assert max(looks) - min(looks) <= 3, f"one camera is favoured: {looks}"
    for status in said:
        assert status.thinned > 0
        assert 1.5 <= status.achieved_rate <= 5
        assert status.detail.endswith(
            "of 10 pictures a second are looked at: this machine keeps up with no more"
        )


async def _drain(running: Sampler) -> None:
    async for _ in running:
        pass


async def test_letting_go_lets_go_of_the_stream_and_ends_the_iteration(
    pools: tuple[CodecPool, InferencePool],
) -> None:
    source = Cameras({NAME: [Stream(NAME, Format("H264", CLOCK))]})
    running = sampler(source, pools)
    async with running:
        reading = asyncio.create_task(_drain(running))
        await until_true(lambda: source.held == 1, "a stream", 5)
    async with asyncio.timeout(5):
        await reading
    assert source.held == 0
    assert pools[0].lanes == pools[1]._pool.lanes == 0
