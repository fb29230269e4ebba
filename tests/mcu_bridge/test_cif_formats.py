"""What fmtp lines of H.261 and H.263 mean for what is sent and answered."""

import pytest

from foundation.desks import CodecDescription
from mcu_bridge.cif_formats import CifLimits, FixedSize, cif_limits, cif_parameters
from mcu_bridge.negotiation import agree, coding
from mcu_bridge.receiver_limits import receiver_limits
from signaling.media_description import read_sdp

CIF, QCIF = FixedSize(352, 288, 30_000 / 1001), FixedSize(176, 144, 30_000 / 1001)
HEAD = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"


def described(*lines: str) -> CodecDescription:
    sdp = HEAD + "".join(f"{line}\r\n" for line in lines).encode()
    return read_sdp(sdp).sections[0].codecs[0]


@pytest.mark.parametrize(
    ("line", "limits"),
    [
        ("CIF=1;QCIF=1", CifLimits((CIF, QCIF))),
        ("QCIF=2; CIF=3; MAXBR=2560", CifLimits(
            (FixedSize(352, 288, 10_000 / 1001), FixedSize(176, 144, 15_000 / 1001)), 256_000)),
        ("CIF4=2 ; CIF=1", CifLimits((FixedSize(704, 576, 15_000 / 1001), CIF))),
        ("F=1;J=1", CifLimits((QCIF,))),
        ("CIF=0;QCIF=x", CifLimits((QCIF,))),
        ("CUSTOM=640,480,1;cif=1", CifLimits((CIF,))),
    ],
)  # fmt: skip
def test_sizes_and_rates_of_h263(line: str, limits: CifLimits) -> None:
    assert cif_limits(described("m=video 30000 RTP/AVP 34", f"a=fmtp:34 {line}")) == limits


def test_nothing_said_means_qcif() -> None:
    assert cif_limits(described("m=video 30000 RTP/AVP 34")) == CifLimits((QCIF,))
    assert cif_limits(described("m=video 30000 RTP/AVP 31", "a=fmtp:31 CIF4=1")) == CifLimits((QCIF,))


def test_a_level_says_sizes_and_the_greatest_rate() -> None:
    codec = described(
        "m=video 30000 RTP/AVP 96", "a=rtpmap:96 H263-2000/90000", "a=fmtp:96 profile=0;level=20"
    )
    assert cif_limits(codec) == CifLimits((FixedSize(352, 288, 15_000 / 1001), QCIF), 128_000)
    assert cif_parameters(codec) == {"profile": "0", "level": "20"}
    limits = receiver_limits(codec, browser=False)
    assert (limits.codec, limits.bitrate_bps) == ("H263", 128_000)
    assert coding(codec) == "H263-1998"


def test_the_answer_takes_the_offered_sizes_at_full_rate() -> None:
    section = read_sdp(
        HEAD + b"m=video 30000 RTP/AVP 31 34\r\na=fmtp:34 QCIF=2;CIF=4;D=1\r\na=fmtp:31 QCIF=1\r\n"
    ).sections[0]
    agreed = agree(section)
    assert agreed is not None
    assert (agreed.main.name, agreed.answer[0].parameters) == ("H263", {"CIF": "1", "QCIF": "1"})
    assert cif_parameters(section.codecs[0]) == {"QCIF": "1"}
