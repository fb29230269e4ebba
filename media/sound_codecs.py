"""Sound codecs: payloads of one RTP packet to mono 48 kHz samples and back. Synchronous; one object a stream.

    sound_decoder(SoundCodec.OPUS) -> SoundDecoder      .decode(payload) -> int16 samples, any length
    sound_decoder(stream.format) -> SoundDecoder        for whatever cameras send; raises UnsupportedSound
    sound_encoder(SoundCodec.PCMA) -> SoundEncoder      .encode(960 samples at 48 kHz) -> payload of 20 ms
    sound_encoder(AacCoding(48_000, 1))                 .encode(...) -> an access unit now, none then

Opus with in-band FEC (RFC 7587), G.711 A-law and mu-law by tables, G.722 (clocked at 8000 in RTP though it
samples at 16000, RFC 3551 4.5.2), AAC of any rate and channels, made as AAC-LC. A payload that cannot be
decoded gives no samples, counted in `errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, Protocol

import av
import av.error
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

from media.aac_sound import AacCoding, AacEncoder
from media.opus_library import STEP, OpusFault, OpusState, opus_library
from media.packet import Format
from media.resampling import Downsampler, Samples, Upsampler
from protocols.payloads.aac import AudioSpecificConfig, MalformedAac
from protocols.payloads.opus import MalformedOpus, packet_duration

RATE = 48_000
"""Samples a second inside the house."""
FRAME = 960
"""Samples of the 20 ms frames that are mixed and encoded."""

SILENT = np.zeros(0, np.int16)


class SoundCodec(StrEnum):
    """Sound codecs we decode and encode, by RTP encoding name in upper case."""

    OPUS = "OPUS"
    G722 = "G722"
    PCMA = "PCMA"
    PCMU = "PCMU"


SoundCoding = SoundCodec | AacCoding
"""How a listener is sent sound."""


class SoundDecoder(Protocol):
    errors: int

    def decode(self, payload: bytes) -> Samples: ...


class SoundEncoder(Protocol):
    def encode(self, samples: Samples) -> bytes: ...


class UnsupportedSound(ValueError):
    """The stream's sound cannot be decoded as it describes itself; the text says why."""


def sound_decoder(coded: SoundCodec | Format) -> SoundDecoder:
    """For a codec as negotiated, or for a stream's format. Raises UnsupportedSound for other formats."""
    if isinstance(coded, SoundCodec):
        return _DECODERS[coded]()
    if coded.codec == "MPEG4-GENERIC":
        return AacDecoder(_aac_config(coded))
    if coded.codec in ("PCMA", "PCMU"):
        table = _A_LAW if coded.codec == "PCMA" else _MU_LAW
        if (coded.clock_rate, coded.channels) == (8_000, 1):
            return G711Decoder(table)
        if not (4_000 <= coded.clock_rate <= 192_000 and 1 <= coded.channels <= 8):
            raise UnsupportedSound(f"{coded.codec} at {coded.clock_rate} Hz, {coded.channels} channels")
        return WideG711Decoder(table, coded.clock_rate, coded.channels)
    try:
        return _DECODERS[SoundCodec(coded.codec)]()
    except ValueError:
        raise UnsupportedSound(f"{coded.codec} sound is not decoded here") from None


def samples_in(coded: Format, payload: bytes) -> int:
    """How long a payload lasts, in ticks of the stream's clock; 0 where it cannot be told."""
    match coded.codec:
        case "OPUS":
            try:
                return packet_duration(payload)
            except MalformedOpus:
                return 0
        case "MPEG4-GENERIC":
            try:
                config = AudioSpecificConfig.parse(_aac_config(coded))
            except (UnsupportedSound, MalformedAac):
                return 0
            return config.samples * coded.clock_rate // config.sample_rate
        case _:
            return len(payload) // max(coded.channels, 1)


def _aac_config(coded: Format) -> bytes:
    try:
        config = bytes.fromhex(coded.parameters.get("config", ""))
        AudioSpecificConfig.parse(config)
    except (ValueError, MalformedAac) as error:
        raise UnsupportedSound(f"the stream's AAC config cannot be used: {error}") from None
    return config


def sound_encoder(codec: SoundCoding, bitrate: int = 32_000) -> SoundEncoder:
    """`bitrate` in bits a second is for Opus; the others have one rate."""
    if isinstance(codec, AacCoding):
        return AacEncoder(codec)
    if codec is SoundCodec.OPUS:
        return OpusEncoder(bitrate)
    return _FIXED_RATE_ENCODERS[codec]()


class LibavDecoder:
    """A decoder of libav with interleaved 16-bit mono output at `rate`."""

    def __init__(self, name: str, rate: int) -> None:
        self.errors = 0
        self._context = _sound_context(name, "r", rate)
        self._up = Upsampler(RATE // rate) if rate != RATE else None

    def decode(self, payload: bytes) -> Samples:
        if not payload:
            return SILENT
        try:
            frames = self._context.decode(av.Packet(payload))
        except (av.error.FFmpegError, ValueError):
            self.errors += 1
            return SILENT
        parts = [_mono(frame) for frame in frames]
        samples = parts[0] if len(parts) == 1 else np.concatenate([SILENT, *parts])
        return self._up.process(samples) if self._up else samples


class OpusDecoder:
    """By libopus itself, which recovers what was lost; by libav where it is not found."""

    def __init__(self) -> None:
        self.errors = 0
        library = opus_library()
        self._state = None if library is None else OpusState(library)
        self._libav = LibavDecoder("libopus", RATE) if library is None else None

    def decode(self, payload: bytes) -> Samples:
        if not payload:
            return SILENT
        if self._state is None:
            assert self._libav is not None, "one of both decodes"
            samples = self._libav.decode(payload)
            self.errors = self._libav.errors
            return samples
        try:
            return self._state.decode(payload)
        except OpusFault:
            self.errors += 1
            return SILENT

    def recover(self, following: bytes, count: int) -> Samples:
        """The `count` samples lost before `following`, out of what it repeats (RFC 7587 3.3) and what came
        before; none where that cannot be done. To be called before `following` is decoded."""
        if self._state is None or not following or count % STEP:
            return SILENT
        try:
            return self._state.recover(following, count, packet_duration(following))
        except (OpusFault, MalformedOpus):
            return SILENT


class G722Decoder(LibavDecoder):
    def __init__(self) -> None:
        super().__init__("g722", 16_000)


class AacDecoder:
    """AAC access units without ADTS (RFC 3640), to mono at 48 kHz whatever their rate and channels.

    `config` is the AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1).
    """

    def __init__(self, config: bytes) -> None:
        self.errors = 0
        self._context = _opened("aac")
        self._context.extradata = config
        self._resampler = _Resampler()

    def decode(self, payload: bytes) -> Samples:
        if not payload:
            return SILENT
        try:
            frames = self._context.decode(av.Packet(payload))
            return self._resampler.process(frames)
        except (av.error.FFmpegError, ValueError):
            self.errors += 1
            return SILENT


class _Resampler:
    """Decoded frames of any rate, layout and sample type to mono at 48 kHz; begins anew when they change."""

    def __init__(self) -> None:
        self._shape: tuple[int, str, str] | None = None
        self._resampler: av.AudioResampler | None = None

    def process(self, frames: Sequence[av.AudioFrame]) -> Samples:
        parts: list[Samples] = []
        for frame in frames:
            shape = (frame.sample_rate, frame.layout.name, frame.format.name)
            if self._resampler is None or shape != self._shape:
                self._shape = shape
                self._resampler = av.AudioResampler("s16", "mono", RATE)
            frame.pts = None
            parts += [
                out.to_ndarray().reshape(-1).astype(np.int16, copy=False)
                for out in self._resampler.resample(frame)
            ]
        return parts[0] if len(parts) == 1 else np.concatenate([SILENT, *parts])


class LibavEncoder:
    """An encoder of libav for 20 ms frames of 48 kHz."""

    def __init__(self, name: str, rate: int, bitrate: int, options: Mapping[str, str]) -> None:
        self._rate = rate
        self._down = Downsampler(RATE // rate) if rate != RATE else None
        self._context = _sound_context(name, "w", rate)
        self._context.bit_rate = bitrate
        self._context.options = dict(options)
        self._context.open()
        self._pts = 0

    def encode(self, samples: Samples) -> bytes:
        _check(samples)
        narrow = self._down.process(samples) if self._down else samples
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(narrow)[None, :], format="s16", layout="mono")
        frame.sample_rate = self._rate
        frame.pts = self._pts
        self._pts += len(narrow)
        return b"".join(bytes(packet) for packet in self._context.encode(frame))


class OpusEncoder(LibavEncoder):
    """Voice at a constrained rate; each packet repeats the one before in small for receivers that lost it."""

    def __init__(self, bitrate: int) -> None:
        options = {
            "application": "voip",
            "frame_duration": "20",
            "vbr": "constrained",
            "fec": "1",
            "packet_loss": "10",
            "compression_level": "5",  # half the cost of 10; not to be told apart at conference rates
        }
        super().__init__("libopus", RATE, bitrate, options)


class G722Encoder(LibavEncoder):
    def __init__(self) -> None:
        super().__init__("g722", 16_000, 64_000, {})


class G711Decoder:
    def __init__(self, table: Samples) -> None:
        self.errors = 0
        self.table = table
        self._up = Upsampler(RATE // 8_000)

    def decode(self, payload: bytes) -> Samples:
        if not payload:
            return SILENT
        return self._up.process(self.table[np.frombuffer(payload, np.uint8)])


class WideG711Decoder:
    """G.711 as some cameras have it: at other rates than 8000, or in several channels."""

    def __init__(self, table: Samples, rate: int, channels: int) -> None:
        self.errors = 0
        self._table = table
        self._rate, self._channels = rate, channels
        self._resampler = _Resampler()

    def decode(self, payload: bytes) -> Samples:
        samples = self._table[np.frombuffer(payload, np.uint8)]
        whole = len(samples) // self._channels * self._channels
        if not whole:
            return SILENT
        mono = samples[:whole].reshape(-1, self._channels).mean(axis=1).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(mono[None, :], format="s16", layout="mono")
        frame.sample_rate = self._rate
        return self._resampler.process([frame])


class G711Encoder:
    def __init__(self, table: NDArray[np.uint8]) -> None:
        self._table = table
        self._down = Downsampler(RATE // 8_000)

    def encode(self, samples: Samples) -> bytes:
        _check(samples)
        return self._table[self._down.process(samples).view(np.uint16)].tobytes()


def _a_law() -> Samples:
    """Decoder output values of ITU-T G.711 table 1, scaled from 13 to 16 bits."""
    code = np.arange(256) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = np.where(
        exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0)
    )
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _mu_law() -> Samples:
    """Decoder output values of ITU-T G.711 table 2, scaled from 14 to 16 bits."""
    code = ~np.arange(256) & 0xFF
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _nearest(table: Samples) -> NDArray[np.uint8]:
    """For every 16-bit sample, by its unsigned view, the code whose value is nearest."""
    order = np.argsort(table, kind="stable")
    values = table[order].astype(np.int32)
    borders = (values[1:] + values[:-1]) / 2
    samples = np.arange(65_536, dtype=np.uint16).view(np.int16)
    return order[np.searchsorted(borders, samples)].astype(np.uint8)


_A_LAW, _MU_LAW = _a_law(), _mu_law()
_A_LAW_CODES, _MU_LAW_CODES = _nearest(_A_LAW), _nearest(_MU_LAW)

_DECODERS: Mapping[SoundCodec, Callable[[], SoundDecoder]] = MappingProxyType(
    {
        SoundCodec.OPUS: OpusDecoder,
        SoundCodec.G722: G722Decoder,
        SoundCodec.PCMA: lambda: G711Decoder(_A_LAW),
        SoundCodec.PCMU: lambda: G711Decoder(_MU_LAW),
    }
)
_FIXED_RATE_ENCODERS: Mapping[SoundCodec, Callable[[], SoundEncoder]] = MappingProxyType(
    {
        SoundCodec.G722: G722Encoder,
        SoundCodec.PCMA: lambda: G711Encoder(_A_LAW_CODES),
        SoundCodec.PCMU: lambda: G711Encoder(_MU_LAW_CODES),
    }
)


def _opened(name: str, mode: Literal["r", "w"] = "r") -> AudioCodecContext:
    context = av.CodecContext.create(name, mode)
    if not isinstance(context, AudioCodecContext):
        raise TypeError(f"{name} is not a sound codec")
    return context


def _sound_context(name: str, mode: Literal["r", "w"], rate: int) -> AudioCodecContext:
    context = _opened(name, mode)
    context.sample_rate = rate
    context.layout = "mono"
    if mode == "w":
        context.format = "s16"
    return context


def _mono(frame: av.AudioFrame) -> Samples:
    """A frame's samples; where a decoder insists on more channels, their mean."""
    samples = frame.to_ndarray().reshape(-1).astype(np.int16, copy=False)
    channels = len(frame.layout.channels)
    return samples if channels == 1 else samples.reshape(-1, channels).mean(axis=1).astype(np.int16)


def _check(samples: Samples) -> None:
    if samples.dtype != np.int16 or samples.shape != (FRAME,):
        raise ValueError(
            f"an encoder takes {FRAME} int16 samples, not {samples.dtype} of shape {samples.shape}"
        )
