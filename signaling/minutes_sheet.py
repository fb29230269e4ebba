"""Minutes as a page and as a sheet for Excel, in Chinese or English."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from html import escape
from typing import Literal

from signaling.call_quality import CallQuality
from signaling.minutes import Minutes, Stay

Language = Literal["zh", "en"]
BOM = "\ufeff"
"""By it Excel knows UTF-8."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")

_ZH = {
    "minutes": "会议纪要",
    "title": "会议名称",
    "number": "会议号",
    "host": "主办单位",
    "began": "开始时间",
    "ended": "结束时间",
    "running": "进行中",
    "written": "制表时间",
    "attended": "参会人次",
    "participants": "参会情况",
    "name": "名称",
    "site": "单位",
    "address": "地址",
    "joined": "入会时间",
    "left": "离会时间",
    "duration": "时长",
    "reason": "离会原因",
    "sound": "音频",
    "picture": "视频",
    "loss in": "上行丢包",
    "loss out": "下行丢包",
    "jitter": "抖动 (ms)",
    "round trip": "往返时延 (ms)",
    "never": "未入会",
    "commands": "会议操作",
    "time": "时间",
    "who": "操作人",
    "what": "操作",
    "about": "对象",
    "detail": "说明",
    "outcome": "结果",
    "roll calls": "点名",
    "by": "点名人",
    "mark": "到会",
    "present": "到",
    "absent": "缺席",
    "called": "已呼叫",
    "waiting": "未点到",
    "marked by": "记录人",
    "kept": "录像与直播",
    "recording": "录像",
    "broadcast": "直播",
    "from": "开始",
    "to": "结束",
    "none": "无",
}
_EN = {
    "minutes": "Minutes",
    "title": "Title",
    "number": "Number",
    "host": "Host",
    "began": "Began",
    "ended": "Ended",
    "running": "running",
    "written": "Written",
    "attended": "Stays",
    "participants": "Participants",
    "name": "Name",
    "site": "Site",
    "address": "Address",
    "joined": "Joined",
    "left": "Left",
    "duration": "Duration",
    "reason": "Reason for leaving",
    "sound": "Sound",
    "picture": "Picture",
    "loss in": "Lost on the way here",
    "loss out": "Lost on the way there",
    "jitter": "Jitter (ms)",
    "round trip": "Round trip (ms)",
    "never": "never in",
    "commands": "Commands",
    "time": "Time",
    "who": "By",
    "what": "Command",
    "about": "About",
    "detail": "Detail",
    "outcome": "Outcome",
    "roll calls": "Roll calls",
    "by": "Called by",
    "mark": "Answer",
    "present": "present",
    "absent": "absent",
    "called": "called",
    "waiting": "not called",
    "marked by": "Marked by",
    "kept": "Recordings and broadcasts",
    "recording": "recording",
    "broadcast": "broadcast",
    "from": "From",
    "to": "To",
    "none": "none",
}
_WORDS: dict[Language, dict[str, str]] = {"zh": _ZH, "en": _EN}
_STYLE = (
    "body{font:14px/1.5 sans-serif;margin:min(2em,4vw);color:#1a1a1a}"
    "table{border-collapse:collapse;width:100%}section{overflow-x:auto}"
    "th,td{border:1px solid #bbb;padding:4px 8px;text-align:left;vertical-align:top;min-width:4em}"
    "th{background:#f0f2f5}h1{font-size:22px}h2{font-size:17px;margin-top:1.6em}"
    "@page{size:landscape}@media print{body{margin:0}section{overflow:visible}tr{break-inside:avoid}}"
)


@dataclass(frozen=True, slots=True)
class Table:
    """A part of the minutes: its heading, its columns, its rows."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def language_of(accepted: str | None) -> Language:
    """From an Accept-Language header (RFC 9110 12.5.4): English where it is preferred, else Chinese."""
    best: tuple[float, Language] = (0.0, "zh")
    for part in (accepted or "").split(","):
        tag, _, parameters = part.strip().partition(";")
        key, _, value = parameters.strip().partition("=")
        try:
            weight = float(value) if key.strip() == "q" else 1.0
        except ValueError:
            continue
        primary = tag.strip().lower().partition("-")[0]
        if primary in ("zh", "en") and weight > best[0]:
            best = (weight, "zh" if primary == "zh" else "en")
    return best[1]


class MinutesSheet:
    """Minutes in one language; times are those of `zone`."""

    def __init__(self, minutes: Minutes, language: Language, zone: tzinfo) -> None:
        self._minutes = minutes
        self._language = language
        self._words = _WORDS[language]
        self._zone = zone

    def html(self) -> str:
        """A page of its own, to read and to print."""
        title = f"{self._words['minutes']} · {self._minutes.conference.title}"
        head, *tables = self.tables()
        lang = "zh-CN" if self._language == "zh" else "en"
        parts = [
            f'<!doctype html><html lang="{lang}"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1><table>",
            *(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in head.rows),
            "</table>",
            *(self._html_table(table) for table in tables),
            "</body></html>",
        ]
        return "".join(parts)

    def csv(self) -> str:
        """For Excel: the parts one below the other; no cell is taken for a formula."""
        out = io.StringIO(newline="")
        out.write(BOM)
        writer = csv.writer(out, lineterminator="\r\n")
        for number, table in enumerate(self.tables()):
            if number:
                writer.writerow(())
            writer.writerow((guarded(table.heading),))
            if table.columns:
                writer.writerow(table.columns)
            writer.writerows([guarded(cell) for cell in row] for row in table.rows)
        return out.getvalue()

    def tables(self) -> tuple[Table, ...]:
        return (
            self._head(),
            self._participants(),
            *self._roll_calls(),
            self._commands(),
            self._kept(),
        )

    # --- parts --------------------------------------------------------------------------------------

    def _head(self) -> Table:
        minutes, conference = self._minutes, self._minutes.conference
        ended = self._words["running"] if conference.ended_at is None else self._time(conference.ended_at)
        rows = (
            ("title", conference.title),
            ("number", conference.number),
            ("host", minutes.host),
            ("began", self._time(conference.started_at or conference.created_at)),
            ("ended", ended),
            ("attended", str(sum(stay.joined_at is not None for stay in minutes.stays))),
            (
                "written",
                f"{self._time(minutes.written_at)} (UTC{minutes.written_at.astimezone(self._zone):%z})",
            ),
        )
        return Table(self._words["minutes"], (), tuple((self._words[key], value) for key, value in rows))

    def _participants(self) -> Table:
        columns = ("name", "site", "address", "joined", "left", "duration", "reason", "sound", "picture")
        measures = ("loss in", "loss out", "jitter", "round trip")
        rows = (self._stay(stay) for stay in self._minutes.stays)
        return self._table("participants", (*columns, *measures), rows)

    def _stay(self, stay: Stay) -> tuple[str, ...]:
        joined = self._words["never"] if stay.joined_at is None else self._time(stay.joined_at)
        return (
            stay.name,
            stay.site,
            stay.address,
            joined,
            self._time(stay.left_at),
            _duration(stay.seconds(self._minutes.written_at)),
            stay.reason,
            *_measures(stay.quality),
        )

    def _commands(self) -> Table:
        rows = (
            (self._time(one.at), one.actor, one.action, one.about, one.detail, one.outcome)
            for one in self._minutes.commands
        )
        return self._table("commands", ("time", "who", "what", "about", "detail", "outcome"), rows)

    def _roll_calls(self) -> Iterable[Table]:
        for call in self._minutes.roll_calls:
            heading = f"{self._words['roll calls']} {self._time(call.started_at)} ({call.started_by})"
            columns = tuple(self._words[key] for key in ("name", "mark", "time", "marked by"))
            rows = tuple(
                (
                    site.name,
                    self._words.get(site.mark, site.mark),
                    self._time(site.marked_at or site.called_at),
                    site.marked_by or "",
                )
                for site in call.sites
            )
            yield Table(heading, columns, rows)

    def _kept(self) -> Table:
        rows = (
            (
                self._words.get(one.kind, one.kind),
                self._time(one.started_at),
                self._time(one.ended_at),
                one.detail,
            )
            for one in self._minutes.kept
        )
        return self._table("kept", ("what", "from", "to", "detail"), rows)

    # --- print --------------------------------------------------------------------------------------

    def _table(self, heading: str, columns: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Table:
        words = self._words
        return Table(words[heading], tuple(words[key] for key in columns), tuple(rows))

    def _html_table(self, table: Table) -> str:
        heading = f"<h2>{escape(table.heading)}</h2>"
        if not table.rows:
            return f"{heading}<p>{escape(self._words['none'])}</p>"
        columns = "".join(f"<th>{escape(word)}</th>" for word in table.columns)
        rows = "".join(f"<tr>{_cells(row)}</tr>" for row in table.rows)
        return f"{heading}<section><table><tr>{columns}</tr>{rows}</table></section>"

    def _time(self, at: datetime | None) -> str:
        return "" if at is None else f"{at.astimezone(self._zone):%Y-%m-%d %H:%M:%S}"


def guarded(cell: str) -> str:
    """A cell that a spreadsheet takes for text, whatever somebody called himself."""
    return f"'{cell}" if cell.lstrip(" \u3000").startswith(_FORMULA) else cell


def _cells(row: tuple[str, ...]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in row)


def _duration(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}" if seconds else ""


def _measures(quality: CallQuality | None) -> tuple[str, ...]:
    if quality is None:
        return ("",) * 6
    losses = [share for share in (quality.sound_lost, quality.picture_lost) if share is not None]
    return (
        quality.sound,
        quality.picture,
        _share(max(losses, default=None)),
        _share(quality.sent_lost),
        "" if quality.jitter_ms is None else f"{quality.jitter_ms:.1f}",
        "" if quality.round_trip_ms is None else f"{quality.round_trip_ms:.1f}",
    )


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"
