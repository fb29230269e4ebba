"""The sheet of a meeting: what is in it, in which language, and that nothing in it is taken for code."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from foundation.desks import ConferenceReport, LegReport, SectionKind, WireReport
from foundation.repositories.conferences import Conference, ConferenceState
from foundation.repositories.roll_calls import CalledSite, RollCallRecord
from signaling.call_quality import CallQuality, quality_in
from signaling.minutes import GivenCommand, Kept, Minutes, Stay
from signaling.minutes_sheet import BOM, MinutesSheet, guarded, language_of

BEGAN = datetime(2026, 3, 1, 1, 0, tzinfo=UTC)
SHANGHAI = ZoneInfo("Asia/Shanghai")
EVIL = '<script>alert("x")</script>'


def at(minutes: float) -> datetime:
    return BEGAN + timedelta(minutes=minutes)


QUALITY = CallQuality("PCMA", "H264", 0.0, 0.0123, 0.002, 3.25, 41.0, 900)
MINUTES = Minutes(
    Conference(
        "c1", "8001", "防汛会商", "gx", BEGAN, ConferenceState.ENDED, started_at=BEGAN, ended_at=at(90)
    ),
    "广西应急管理厅",
    at(95),
    (
        Stay("南宁市", "南宁", "sip:a@192.0.2.1", BEGAN, at(1), at(62.5), "the peer hung up", QUALITY),
        Stay("=1+1", "", "+8613800000000", BEGAN, None, at(2), "480 Temporarily Unavailable", None),
    ),
    (GivenCommand(at(5), "ma", "mute", EVIL, "", "done"),),
    (
        RollCallRecord(
            "r1",
            "c1",
            "ma",
            at(10),
            (CalledSite("p1", "南宁市", "nn", "present", at(10), at(11), "ma"),),
            at(12),
        ),
    ),
    (Kept("broadcast", at(20), None, "/live/flood"),),
)


def rows(sheet: MinutesSheet) -> list[list[str]]:
    text = sheet.csv()
    assert text.startswith(BOM)
    assert "\r\n" in text
    return list(csv.reader(io.StringIO(text[1:], newline="")))


def test_a_sheet_for_excel_in_chinese() -> None:
    lines = rows(MinutesSheet(MINUTES, "zh", SHANGHAI))
    assert ["会议名称", "防汛会商"] in lines
    assert ["开始时间", "2026-03-01 09:00:00"] in lines
    assert ["参会人次", "1"] in lines
    stay = next(line for line in lines if line[:1] == ["南宁市"] and len(line) > 5)
    assert stay == [
        "南宁市",
        "南宁",
        "sip:a@192.0.2.1",
        "2026-03-01 09:01:00",
        "2026-03-01 10:02:30",
        "1:01:30",
        "the peer hung up",
        "PCMA",
        "H264",
        "1.23 %",
        "0.20 %",
        "3.2",
        "41.0",
    ]
    never = next(line for line in lines if line[:1] == ["'=1+1"])
    assert never[2:4] == ["'+8613800000000", "未入会"]
    assert never[7:] == [""] * 6
    assert ["点名 2026-03-01 09:10:00 (ma)"] in lines
    assert ["南宁市", "到", "2026-03-01 09:11:00", "ma"] in lines
    assert ["直播", "2026-03-01 09:20:00", "", "/live/flood"] in lines


def test_a_page_in_english_runs_nothing_that_somebody_called_himself() -> None:
    page = MinutesSheet(MINUTES, "en", UTC).html()
    assert page.startswith('<!doctype html><html lang="en">')
    assert "<td>1:01:30</td>" in page
    assert "never in" in page
    assert "<script>" not in page
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in page


@pytest.mark.parametrize("cell", ["=A1", "+1", "-1", "@x", "\t=1", "  =1", "\u3000=1", "|x", "%x", "\r=1"])
def test_no_cell_is_a_formula(cell: str) -> None:
    assert guarded(cell) == f"'{cell}"


def test_plain_cells_stay() -> None:
    for cell in ("", "南宁市", "a=b", "12", "2026-01-01"):
        assert guarded(cell) == cell


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        (None, "zh"),
        ("", "zh"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("de, en;q=0.5", "en"),
        ("fr", "zh"),
        ("en;q=oops", "zh"),
        ("en;q=0", "zh"),
    ],
)
def test_the_language_is_the_readers(accepted: str | None, language: str) -> None:
    assert language_of(accepted) == language


def test_the_quality_of_one_call_out_of_a_report() -> None:
    def leg(who: str, kind: SectionKind, outgoing: bool, packets: int, lost: int) -> LegReport:
        return LegReport(who, kind, outgoing, "X", 0, packets, lost, 4.0, 20.0 if outgoing else None, 7)

    legs = (
        leg("a", SectionKind.AUDIO, False, 900, 100),
        leg("a", SectionKind.VIDEO, False, 0, 0),
        leg("a", SectionKind.AUDIO, True, 1000, 50),
        leg("b", SectionKind.AUDIO, False, 10, 0),
    )
    wires = (WireReport("a", 5, 6, 0, 0, 0, 0, 0.0),)
    report = ConferenceReport("c", 1, legs=legs, wires=wires)
    assert quality_in(report, "a") == CallQuality("X", "", 0.1, None, 0.05, 4.0, 20.0, 7, 6, 5)
    assert quality_in(report, "nobody") is None
