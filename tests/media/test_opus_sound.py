"""Sound that files cannot hold becomes Opus on the same time line; what they hold passes as it is."""

import asyncio
import itertools
from dataclasses import replace

import numpy as np
import pytest

from media.codec_worker import CodecPool
from media.opus_sound import OPUS, OpusMaker, UnsupportedSound, as_opus
from media.packet import Format, Packet
from media.sound_codecs import SoundCodec, sound_decoder, sound_encoder
from media.stream import Stream

PCMA = Format("PCMA", 8000)


def tone(seconds: float, *, first: int = 5_000_000) -> list[Packet]:
    """440 Hz in A-law, 20 ms a packet."""
    encoder = sound_encoder(SoundCodec.PCMA)
    made = []
    for number in range(int(seconds * 50)):
        at = np.arange(number * 960, (number + 1) * 960)
        wave = (8000 * np.sin(at * 2 * np.pi * 440 / 48_000)).astype(np.int16)
        made.append(
            Packet(encoder.encode(wave), first + number * 160, 10 + number * 0.02, ntp=900 + number * 0.02)
        )
    return made


def pitch(packets: list[Packet]) -> float:
    decoder = sound_decoder(SoundCodec.OPUS)
    samples = np.concatenate([decoder.decode(one.data) for one in packets])[4800:]
    spectrum = np.abs(np.fft.rfft(samples))
    return float(spectrum.argmax() * 48_000 / len(samples))


def test_a_tone_stays_a_tone_at_its_time() -> None:
    maker = OpusMaker(PCMA)
    made = [one for packet in tone(2.0) for one in maker.take(packet)]
    assert len(made) == 100
    assert [one.pts for one in made] == [5_000_000 * 6 + n * 960 for n in range(100)]
    assert all(one.ntp == pytest.approx(900 + n * 0.02, abs=0.03) for n, one in enumerate(made))
    assert pitch(made) == pytest.approx(440, abs=3)


def test_a_hole_stays_a_hole_and_unrest_is_evened_out() -> None:
    packets = tone(3.0)
    shaken = [replace(one, pts=one.pts + (n % 3) * 40) for n, one in enumerate(packets[:50])]
    holed = [*shaken, replace(packets[60], damaged=True), *packets[100:]]
    maker = OpusMaker(PCMA)
    made = [one for packet in holed for one in maker.take(packet)]
    steps = [after.pts - one.pts for one, after in itertools.pairwise(made)]
    assert [step for step in steps if step != 960] == [51 * 960]


@pytest.mark.parametrize("size", [80, 240, 1000])
def test_packets_of_any_length_become_20_ms(size: int) -> None:
    data = b"".join(one.data for one in tone(2.0))
    maker = OpusMaker(PCMA)
    made = [
        one for at in range(0, len(data), size) for one in maker.take(Packet(data[at : at + size], at, 10.0))
    ]
    assert len(made) == 100
    assert {after.pts - one.pts for one, after in itertools.pairwise(made)} == {960}


def test_what_cannot_be_decoded_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedSound, match="G723"):
        OpusMaker(Format("G723", 8000))


async def test_a_stream_is_transcoded_beside_the_loop_and_ends_with_its_source() -> None:
    pool, source = CodecPool(1), Stream("camera:gate/sound", PCMA)
    async with as_opus(source, pool) as made:
        assert made.format == OPUS
        reader = made.reader()
        await asyncio.sleep(0)
        for packet in tone(1.0):
            source.publish(packet)
        first = [await asyncio.wait_for(anext(reader), 5) for _ in range(50)]
        assert pitch(first) == pytest.approx(440, abs=4)
        source.close()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(reader), 5)
    assert (source.readers, pool.lanes) == (0, 0)
    await pool.aclose()


async def test_opus_and_aac_pass_as_they_are() -> None:
    pool = CodecPool(1)
    for coded in (OPUS, Format("MPEG4-GENERIC", 48_000, parameters={"config": "1188"})):
        source = Stream("s", coded)
        async with as_opus(source, pool) as made:
            assert made is source
    await pool.aclose()
