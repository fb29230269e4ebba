"""What a receiver of H.264 can be sent, by what it says of itself."""

from __future__ import annotations

import pytest

from foundation.desks import CodecDescription
from mcu_bridge.picture_plan import PictureLimits
from mcu_bridge.receiver_limits import receiver_limits


def limits(**parameters: str) -> PictureLimits:
    named = {name.replace("_", "-"): value for name, value in parameters.items()}
    return receiver_limits(CodecDescription("H264", 97, 90_000, 1, named), browser=False)


def test_a_level_is_raised_by_what_stands_beside_it() -> None:
    low = limits(profile_level_id="42800d", max_mbps="108000", max_fs="3600", max_br="1600")
    assert (low.max_macroblock_rate, low.max_frame_size, low.bitrate_bps) == (108_000, 3600, 1_600_000)
    assert (low.profiles, low.max_nal is None) == ({66}, False)


@pytest.mark.parametrize("broken", ["", "12e3", "1536.5", "²", "-1", "9" * 10])
def test_a_number_that_cannot_be_read_costs_nothing_but_itself(broken: str) -> None:
    partly = limits(profile_level_id="42801f", packetization_mode="1", max_mbps=broken, max_fs="3840")
    assert partly == limits(profile_level_id="42801f", packetization_mode="1", max_fs="3840")
    assert (partly.max_macroblock_rate, partly.max_frame_size, partly.max_nal) == (108_000, 3840, None)
    assert limits(profile_level_id="42801f", max_br=broken).bitrate_bps == 14_000_000


def test_a_profile_that_cannot_be_read_is_the_missing_one() -> None:
    assert limits(profile_level_id="42e0", packetization_mode="x") == limits()
    assert limits().bitrate_bps == 64_000
