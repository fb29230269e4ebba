"""Which offers of AAC are taken, what is answered, and how its access units are dated."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foundation.desks import CodecDescription, MediaSection, SectionKind
from mcu_bridge.aac_terms import AacTerms
from mcu_bridge.negotiation import agree
from mcu_bridge.rates import sound_wire_bps
from mcu_bridge.sound_leg import UnitClock
from media.aac_sound import AacCoding
from tests.mcu_bridge.rtp_peer import AAC, G722, LATM, OPUS, PCMA


def chosen(*codecs: CodecDescription) -> str:
    agreed = agree(MediaSection(SectionKind.AUDIO, "192.0.2.1", 40_000, codecs=codecs))
    assert agreed is not None
    return agreed.main.name


def test_aac_is_taken_where_nothing_wide_and_light_is_shared() -> None:
    assert chosen(AAC, PCMA) == AAC.name
    assert chosen(PCMA, AAC) == "PCMA", "the offerer's order holds"
    assert chosen(AAC, LATM, G722, PCMA) == "G722"
    assert chosen(AAC, OPUS, PCMA) == "OPUS"
    assert chosen(LATM, AAC) == AAC.name
    assert chosen(LATM, PCMA) == "PCMA", "at 16 kHz it delays more than it betters"
    assert chosen(LATM) == LATM.name


def test_the_answer_describes_what_we_send() -> None:
    agreed = agree(MediaSection(SectionKind.AUDIO, "192.0.2.1", 40_000, codecs=(AAC,)))
    assert agreed is not None
    (answered,) = agreed.answer
    assert (answered.payload_type, answered.clock_rate, answered.channels) == (102, 48_000, 2)
    assert answered.parameters == {
        "streamtype": "5",
        "profile-level-id": "15",
        "mode": "AAC-hbr",
        "config": "1190",
        "sizeLength": "13",
        "indexLength": "3",
        "indexDeltaLength": "3",
    }
    latm = AacTerms.of(LATM)
    assert latm is not None
    assert latm.answer["config"] == "400028103fc0"
    assert latm.answer["cpresent"] == "0"
    assert latm.coding == AacCoding(16_000, 1)


@pytest.mark.parametrize(
    "parameters",
    [
        {"mode": "AAC-hbr", "config": "B98C0000"},  # object type 23, AAC-LD
        {"mode": "AAC-lbr", "config": "1190"},
        {"mode": "AAC-hbr", "config": "1210"},  # 44.1 kHz in a stream of 48
        {"mode": "AAC-hbr", "config": "1190", "sizelength": "6", "indexlength": "2", "indexdeltalength": "2"},
        {"mode": "AAC-hbr", "config": "119"},
        {"mode": "AAC-hbr", "config": "11a0"},  # four channels
        {"mode": "AAC-hbr", "config": "1194"},  # units of 960 samples
        {"profile-level-id": "15"},
    ],
)
def test_what_cannot_be_sent_back_is_passed_over(parameters: dict[str, str]) -> None:
    assert AacTerms.of(replace(AAC, parameters=parameters)) is None
    assert chosen(replace(AAC, parameters=parameters), PCMA) == "PCMA"


def test_a_configuration_that_is_left_out_is_that_of_the_rtpmap() -> None:
    terms = AacTerms.of(replace(AAC, clock_rate=32_000, channels=1, parameters={"mode": "AAC-hbr"}))
    assert terms is not None
    assert terms.coding == AacCoding(32_000, 1)
    for clock_rate in (0, 8_000, 96_000, 1 << 30):
        assert AacTerms.of(replace(AAC, clock_rate=clock_rate, parameters={"mode": "AAC-hbr"})) is None
        latm = replace(LATM, clock_rate=clock_rate)
        assert (AacTerms.of(latm) is not None) is (clock_rate == 96_000)


def test_units_are_dated_one_after_the_other_and_leave_gaps_where_ticks_are_missing() -> None:
    clock = UnitClock(960, 1024)
    ticks = [2 + n + n // 15 for n in range(60)]  # a tick in sixteen brings none
    assert [clock.date(tick) for tick in ticks] == [1920 + 1024 * n for n in range(60)]
    assert clock.date(200) == 192_000
    assert clock.date(201) == 193_024


def test_what_aac_takes_of_a_budget() -> None:
    assert sound_wire_bps(AacCoding(48_000, 1), 28) == 48_000 + (4 + 12 + 28) * 8 * 47
