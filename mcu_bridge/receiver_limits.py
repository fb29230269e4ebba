"""What a receiver's description says that it can be sent, whatever the budget. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from foundation.desks import CodecDescription
from mcu_bridge.cif_formats import cif_limits
from mcu_bridge.negotiation import CIF_CODECS, packetization_mode, profile_level_id
from mcu_bridge.picture_plan import PictureLimits
from mcu_bridge.rates import PAYLOAD
from protocols.payloads.h264_fmtp import LEVELS, H264Format, ProfileLevel

_ANY_RATE = 100_000_000
_BROWSER = LEVELS[42]
"""Browsers write level 3.1 in every offer, whatever they decode; all take 1920x1080 at 60."""

_PROFILES = {66: {66}, 77: {66, 77}, 88: {66}, 100: {66, 77, 100}, 244: {66, 77, 100}}


def receiver_limits(codec: CodecDescription, *, browser: bool) -> PictureLimits:
    if codec.name in CIF_CODECS:
        # Baseline pictures are the same in both payload formats of H.263: one encoder serves both.
        limits = cif_limits(codec)
        name = "H261" if codec.name == "H261" else "H263"
        return PictureLimits(name, limits.bitrate_bps or _ANY_RATE, sizes=limits.sizes)
    if codec.name != "H264":
        return PictureLimits(codec.name, _ANY_RATE)
    return _h264_limits(codec, browser=browser)


def _h264_limits(codec: CodecDescription, *, browser: bool) -> PictureLimits:
    described = H264Format(
        ProfileLevel.parse(profile_level_id(codec)),
        packetization_mode(codec),
        max_mbps=_number(codec, "max-mbps"),
        max_fs=_number(codec, "max-fs"),
        max_br=_number(codec, "max-br"),
        level_asymmetry_allowed=codec.parameters.get("level-asymmetry-allowed") == "1",
    )
    limits = described.limits
    if browser and described.level_asymmetry_allowed:
        limits = replace(
            limits,
            max_fs=max(limits.max_fs, _BROWSER.max_fs),
            max_mbps=max(limits.max_mbps, _BROWSER.max_mbps),
        )
    return PictureLimits(
        codec="H264",
        bitrate_bps=limits.max_br * 1000,
        max_frame_size=limits.max_fs,
        max_macroblock_rate=limits.max_mbps,
        profiles=frozenset(_PROFILES.get(described.profile_level.profile_idc, {66})),
        max_nal=PAYLOAD if described.packetization_mode == 0 else None,
    )


def _number(codec: CodecDescription, name: str) -> int | None:
    """One that cannot be read says nothing; the others stand."""
    value = codec.parameters.get(name, "")
    return int(value) if re.fullmatch("[0-9]{1,9}", value) else None
