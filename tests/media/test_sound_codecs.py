import av
import numpy as np
import pytest
from av.audio.codeccontext import AudioCodecContext
from hypothesis import given, settings
from hypothesis import strategies as st

from media import sound_codecs
from media.packet import Format
from media.resampling import Downsampler, Samples, Upsampler
from media.sound_codecs import (
    FRAME,
    RATE,
    OpusDecoder,
    SoundCodec,
    UnsupportedSound,
    samples_in,
    sound_decoder,
    sound_encoder,
)

PAYLOAD = {SoundCodec.PCMA: 160, SoundCodec.PCMU: 160, SoundCodec.G722: 160}


def tone(frequency: float, count: int, rate: int = RATE, loudness: float = 8000) -> Samples:
    return np.rint(np.sin(np.arange(count) * 2 * np.pi * frequency / rate) * loudness).astype(np.int16)


def spectrum(samples: Samples, rate: int = RATE) -> tuple[float, float, float]:
    """Strongest frequency in Hz, amplitude of the whole, and how far the rest lies below it in dB."""
    signal = samples.astype(np.float64)
    bins = np.abs(np.fft.rfft(signal * np.hanning(len(signal)))) ** 2
    peak = int(bins.argmax())
    tone_power = bins[max(peak - 4, 0) : peak + 5].sum()
    rest = max(bins.sum() - tone_power, 1e-9)
    amplitude = float(np.sqrt((signal**2).mean() * 2))
    return peak * rate / len(signal), amplitude, float(10 * np.log10(tone_power / rest))


@pytest.mark.parametrize("frequency", [400, 1000, 3000])
@pytest.mark.parametrize("codec", list(SoundCodec))
def test_a_tone_survives_each_codec(codec: SoundCodec, frequency: int) -> None:
    encoder, decoder = sound_encoder(codec), sound_decoder(codec)
    original = tone(frequency, FRAME * 60)
    payloads = [encoder.encode(original[n : n + FRAME]) for n in range(0, len(original), FRAME)]
    if codec in PAYLOAD:
        assert {len(payload) for payload in payloads} == {PAYLOAD[codec]}
    frames = [decoder.decode(payload) for payload in payloads]
    assert all(len(frame) == FRAME for frame in frames)
    heard, amplitude, clean = spectrum(np.concatenate(frames)[FRAME * 10 :])
    assert heard == pytest.approx(frequency, abs=2)
    assert amplitude == pytest.approx(8000, rel=0.05)
    assert clean > 25
    assert decoder.errors == 0


def test_opus_keeps_to_its_rate() -> None:
    encoder = sound_encoder(SoundCodec.OPUS, bitrate=24_000)
    rng = np.random.default_rng(3)
    sizes = [len(encoder.encode(rng.integers(-9000, 9000, FRAME, np.int16))) for _ in range(100)]
    assert sum(sizes) * 8 / 2.0 < 26_000


def test_g711_tables_are_the_standard_s() -> None:
    """ITU-T G.711 tables 1 and 2: the largest values, the smallest, and silence."""
    a_law, mu_law = sound_codecs._A_LAW, sound_codecs._MU_LAW
    assert (int(a_law[0xAA]), int(a_law[0x2A])) == (32256, -32256)
    assert (int(a_law[0xD5]), int(a_law[0x55])) == (8, -8)
    assert (int(mu_law[0x80]), int(mu_law[0x00])) == (32124, -32124)
    assert (int(mu_law[0xFF]), int(mu_law[0x7F])) == (0, 0)
    for table, codes in ((a_law, sound_codecs._A_LAW_CODES), (mu_law, sound_codecs._MU_LAW_CODES)):
        nearest = table[codes[table.view(np.uint16)]]
        assert np.array_equal(nearest, table)


def test_wideband_survives_where_the_codec_has_it() -> None:
    for codec, passes in ((SoundCodec.OPUS, True), (SoundCodec.G722, True), (SoundCodec.PCMA, False)):
        encoder, decoder = sound_encoder(codec), sound_decoder(codec)
        original = tone(6000, FRAME * 40)
        frames = [
            decoder.decode(encoder.encode(original[n : n + FRAME])) for n in range(0, FRAME * 40, FRAME)
        ]
        _, amplitude, _ = spectrum(np.concatenate(frames)[FRAME * 10 :])
        assert (amplitude > 6000) is passes
        assert amplitude > 6000 or amplitude < 30  # what G.711 cannot carry is gone, not folded


def test_packets_of_other_lengths_are_decoded_whole() -> None:
    decoder = sound_decoder(SoundCodec.PCMU)
    assert [len(decoder.decode(bytes(count))) for count in (80, 240, 480, 1)] == [480, 1440, 2880, 6]


def test_empty_and_broken_payloads_give_nothing_and_are_counted() -> None:
    for codec in SoundCodec:
        assert len(sound_decoder(codec).decode(b"")) == 0
    decoder = sound_decoder(SoundCodec.OPUS)
    assert len(decoder.decode(b"\xff\xff\xff")) == 0
    assert decoder.errors == 1
    good = sound_encoder(SoundCodec.OPUS).encode(tone(400, FRAME))
    assert len(decoder.decode(good)) == FRAME


def test_encoders_take_only_frames_of_20_ms() -> None:
    for codec in SoundCodec:
        with pytest.raises(ValueError, match="960 int16 samples"):
            sound_encoder(codec).encode(np.zeros(480, np.int16))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(SoundCodec)), st.lists(st.binary(max_size=120), max_size=4))
def test_rubbish_never_raises(codec: SoundCodec, payloads: list[bytes]) -> None:
    decoder = sound_decoder(codec)
    for payload in payloads:
        assert decoder.decode(payload).dtype == np.int16


@pytest.mark.parametrize("factor", [3, 6])
@pytest.mark.parametrize("frequency", [300, 1000, 0.42])
def test_resampling_keeps_what_both_rates_hold(factor: int, frequency: float) -> None:
    """`frequency` below 1 is a part of the lower rate."""
    low = RATE // factor
    hertz = frequency * low if frequency < 1 else frequency
    up, down = Upsampler(factor), Downsampler(factor)
    narrow = tone(hertz, low, low)
    wide = np.concatenate([up.process(part) for part in np.array_split(narrow, [160, 161, 800, 1234])])
    assert len(wide) == RATE
    heard, amplitude, clean = spectrum(wide[RATE // 10 :])
    assert heard == pytest.approx(hertz, abs=2)
    assert amplitude == pytest.approx(8000, rel=0.08)
    assert clean > 50
    back = np.concatenate([down.process(part) for part in np.split(wide, 50)])
    heard, amplitude, clean = spectrum(back[low // 10 :], low)
    assert heard == pytest.approx(hertz, abs=2)
    assert amplitude == pytest.approx(8000, rel=0.16)
    assert clean > 45


def test_what_the_lower_rate_cannot_hold_is_gone() -> None:
    samples = Downsampler(6).process(tone(5000, RATE))
    assert spectrum(samples[800:], 8000)[1] < 20


@given(st.lists(st.integers(0, 700), max_size=12))
def test_the_cutting_into_blocks_does_not_show(cuts: list[int]) -> None:
    samples = tone(777, 700, 8000)
    whole = Upsampler(6).process(samples)
    upsampler = Upsampler(6)
    parts = [upsampler.process(part) for part in np.split(samples, sorted(cuts))]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_downsampler_takes_whole_groups() -> None:
    with pytest.raises(ValueError, match="not a multiple of 6"):
        Downsampler(6).process(np.zeros(100, np.int16))


def aac(rate: int, channels: int, frequency: float, seconds: float) -> tuple[Format, list[bytes]]:
    """Access units of a tone, as a camera's stream has them."""
    encoder = av.CodecContext.create("aac", "w")
    assert isinstance(encoder, AudioCodecContext)
    layout = "mono" if channels == 1 else "stereo"
    encoder.sample_rate, encoder.layout, encoder.format = rate, layout, "fltp"
    encoder.bit_rate = 96_000
    encoder.open()
    packets = []
    for number in range(round(seconds * rate) // 1024):
        at = (np.arange(1024) + number * 1024) / rate
        wave = (np.sin(2 * np.pi * frequency * at) * 8000 / 32768).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave] * channels), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, number * 1024
        packets += encoder.encode(frame)
    config = bytes(encoder.extradata or b"").hex()
    return Format("MPEG4-GENERIC", rate, channels, {"config": config}), [bytes(one) for one in packets]


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (44_100, 2), (16_000, 1), (8_000, 1)])
def test_aac_of_any_rate_and_channels_is_heard(rate: int, channels: int) -> None:
    coded, units = aac(rate, channels, 1000.0, 2.0)
    decoder = sound_decoder(coded)
    samples = np.concatenate([decoder.decode(unit) for unit in units])
    assert len(samples) == pytest.approx(len(units) * 1024 * RATE / rate, abs=2048 * RATE / rate)
    heard, amplitude, clean = spectrum(samples[RATE // 5 :])
    assert heard == pytest.approx(1000, abs=2)
    assert amplitude == pytest.approx(8000, rel=0.1)
    assert clean > 20
    assert samples_in(coded, units[0]) == 1024
    assert decoder.errors == 0


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (8_000, 2), (44_100, 1)])
def test_g711_of_unusual_cameras_is_heard(rate: int, channels: int) -> None:
    coded = Format("PCMU", rate, channels)
    codes = sound_codecs._MU_LAW_CODES
    wave = np.repeat(tone(700, rate, rate), channels)
    payload = codes[wave.view(np.uint16)].tobytes()
    decoder = sound_decoder(coded)
    step = rate // 50 * channels
    samples = np.concatenate([decoder.decode(payload[n : n + step]) for n in range(0, len(payload), step)])
    heard, amplitude, _clean = spectrum(samples[RATE // 5 :])
    assert heard == pytest.approx(700, abs=3)
    assert amplitude == pytest.approx(8000, rel=0.1)
    assert samples_in(coded, payload) == rate
    assert len(decoder.decode(b"")) == 0


@pytest.mark.parametrize(
    "coded",
    [
        Format("MPEG4-GENERIC", 48_000, 2, {"config": "nonsense"}),
        Format("MPEG4-GENERIC", 48_000, 2),
        Format("G729", 8_000),
        Format("PCMA", 1, 1),
        Format("PCMA", 8_000, 0),
    ],
)
def test_what_cannot_be_decoded_says_so(coded: Format) -> None:
    with pytest.raises(UnsupportedSound):
        sound_decoder(coded)


@given(st.lists(st.binary(max_size=60), max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_bytes_as_aac_are_survived(payloads: list[bytes]) -> None:
    decoder = sound_decoder(Format("MPEG4-GENERIC", 48_000, 2, {"config": "1190"}))
    for payload in payloads:
        assert decoder.decode(payload).dtype == np.int16


def alternating(frames: int) -> Samples:
    """A voice of two pitches with an overtone, changing every tenth frame."""
    index = np.arange(FRAME * frames)
    pitch = np.where((index // FRAME // 10) % 2 == 0, 300.0, 700.0)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    return np.rint(np.sin(phase) * 6000 + np.sin(2 * phase) * 3000).astype(np.int16)


def test_a_lost_opus_packet_comes_out_of_the_next_one() -> None:
    """At a change of pitch no continuation of the past can guess it."""
    encoder = sound_encoder(SoundCodec.OPUS)
    voice = alternating(60)
    packets = [encoder.encode(voice[at : at + FRAME]) for at in range(0, len(voice), FRAME)]
    whole = OpusDecoder()
    meant = [whole.decode(packet) for packet in packets]
    recovered = []
    for lost in (20, 30, 50):
        decoder = OpusDecoder()
        for packet in packets[:lost]:
            decoder.decode(packet)
        samples = decoder.recover(packets[lost + 1], FRAME)
        assert len(samples) == FRAME
        wrong = np.mean((samples.astype(float) - meant[lost]) ** 2)
        recovered.append(10 * np.log10(wrong / np.mean(meant[lost].astype(float) ** 2)))
        after = decoder.decode(packets[lost + 1])
        assert len(after) == FRAME
    assert sorted(recovered)[1] < -10, recovered


def test_several_lost_opus_packets_are_all_filled_and_what_cannot_be_is_left() -> None:
    encoder = sound_encoder(SoundCodec.OPUS)
    voice = alternating(30)
    packets = [encoder.encode(voice[at : at + FRAME]) for at in range(0, len(voice), FRAME)]
    decoder = OpusDecoder()
    for packet in packets[:15]:
        decoder.decode(packet)
    assert len(decoder.recover(packets[18], 3 * FRAME)) == 3 * FRAME
    assert len(decoder.recover(packets[18], 100)) == 0
    assert len(decoder.recover(b"", FRAME)) == 0
    assert len(decoder.recover(b"\xff\xff", FRAME)) == 0
    assert len(decoder.decode(b"\xff\xff")) == 0
    assert decoder.errors == 1


def test_without_libopus_itself_libav_decodes_and_nothing_is_recovered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sound_codecs, "opus_library", lambda: None)
    encoder, decoder = sound_encoder(SoundCodec.OPUS), OpusDecoder()
    packet = encoder.encode(tone(440, FRAME))
    assert len(decoder.decode(packet)) == FRAME
    assert len(decoder.recover(packet, FRAME)) == 0
