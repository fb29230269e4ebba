"""H.264 sequence parameter sets (ITU-T H.264 7.3.2.1.1): what picture a stream carries."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.payloads.bit_reader import BitReader, EndOfBits, rbsp

_CHROMA_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_MAX_SIDE = 16384


class MalformedParameterSet(ValueError):
    """The peer's parameter set does not follow H.264 7.3.2."""


@dataclass(frozen=True, slots=True)
class SequenceParameterSet:
    """`constraint_flags` is the byte between profile and level; `width`, `height` are in pixels, cropped.

    `max_num_reorder_frames` (E.2.1) is None where the set does not say it.
    """

    id: int
    profile_idc: int
    constraint_flags: int
    level_idc: int
    width: int
    height: int
    chroma_format_idc: int = 1
    max_num_ref_frames: int = 0
    frame_mbs_only: bool = True
    pic_order_cnt_type: int = 0
    max_num_reorder_frames: int | None = None

    @property
    def profile_level_id(self) -> str:
        """As in SDP (RFC 6184 8.1), for example "42e01f"."""
        return f"{self.profile_idc:02x}{self.constraint_flags:02x}{self.level_idc:02x}"

    @classmethod
    def parse(cls, nal_unit: bytes) -> SequenceParameterSet:
        """Reads a NAL unit of type 7 without start code. Raises MalformedParameterSet."""
        if len(nal_unit) < 5 or nal_unit[0] & 0x1F != 7:
            raise MalformedParameterSet("not a sequence parameter set")
        try:
            return _parse(BitReader(rbsp(nal_unit)))
        except EndOfBits as error:
            raise MalformedParameterSet(f"a sequence parameter set is cut off: {error}") from error


def parameter_set_id(nal_unit: bytes) -> int:
    """The id of an SPS (7.3.2.1.1) or PPS (7.3.2.2) NAL unit. Raises MalformedParameterSet."""
    kind = nal_unit[0] & 0x1F if nal_unit else 0
    if kind not in (7, 8):
        raise MalformedParameterSet(f"a NAL unit of type {kind} is no parameter set")
    is_sps = kind == 7
    reader = BitReader(rbsp(nal_unit[:24]))
    try:
        if is_sps:
            reader.u(24)
        number = reader.ue()
    except EndOfBits as error:
        raise MalformedParameterSet(f"a parameter set without id: {error}") from error
    if number > (31 if is_sps else 255):
        raise MalformedParameterSet(f"parameter set id {number} is out of range")
    return number


def _parse(reader: BitReader) -> SequenceParameterSet:
    profile_idc, constraint_flags, level_idc = reader.u(8), reader.u(8), reader.u(8)
    number = reader.ue()
    chroma_format_idc, separate_planes = 1, 0
    if profile_idc in _CHROMA_PROFILES:
        chroma_format_idc = reader.ue()
        separate_planes = reader.u(1) if chroma_format_idc == 3 else 0
        reader.ue()  # bit_depth_luma_minus8
        reader.ue()  # bit_depth_chroma_minus8
        reader.u(1)  # qpprime_y_zero_transform_bypass_flag
        if reader.u(1):
            _skip_scaling_matrix(reader, 12 if chroma_format_idc == 3 else 8)
    reader.ue()  # log2_max_frame_num_minus4
    pic_order_cnt_type = _skip_picture_order(reader)
    max_num_ref_frames = reader.ue()
    reader.u(1)  # gaps_in_frame_num_value_allowed_flag
    width_mbs, height_units = reader.ue() + 1, reader.ue() + 1
    frame_mbs_only = reader.u(1)
    if not frame_mbs_only:
        reader.u(1)  # mb_adaptive_frame_field_flag
    reader.u(1)  # direct_8x8_inference_flag
    left = right = top = bottom = 0
    if reader.u(1):
        left, right, top, bottom = reader.ue(), reader.ue(), reader.ue(), reader.ue()
    reordered = _reorder_frames(reader)
    planar = 0 if separate_planes else chroma_format_idc
    unit_x = 2 if planar in (1, 2) else 1
    unit_y = (2 if planar == 1 else 1) * (2 - frame_mbs_only)
    width = 16 * width_mbs - unit_x * (left + right)
    height = 16 * (2 - frame_mbs_only) * height_units - unit_y * (top + bottom)
    if chroma_format_idc > 3 or number > 31 or not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise MalformedParameterSet(f"an impossible sequence parameter set: {width}x{height}, id {number}")
    return SequenceParameterSet(
        id=number,
        profile_idc=profile_idc,
        constraint_flags=constraint_flags,
        level_idc=level_idc,
        width=width,
        height=height,
        chroma_format_idc=chroma_format_idc,
        max_num_ref_frames=max_num_ref_frames,
        frame_mbs_only=bool(frame_mbs_only),
        pic_order_cnt_type=pic_order_cnt_type,
        max_num_reorder_frames=reordered,
    )


def _reorder_frames(reader: BitReader) -> int | None:
    """max_num_reorder_frames of VUI (E.1.1); sets that are cut off there are taken as silent about it."""
    try:
        if not reader.u(1):
            return None
        _skip_vui_up_to_restriction(reader)
        if not reader.u(1):  # bitstream_restriction_flag
            return None
        reader.u(1)  # motion_vectors_over_pic_boundaries_flag
        for _ in range(4):  # max_bytes_per_pic_denom to log2_max_mv_length_vertical
            reader.ue()
        return reader.ue()
    except EndOfBits:
        return None


_EXTENDED_SAR = 255


def _skip_vui_up_to_restriction(reader: BitReader) -> None:
    if reader.u(1) and reader.u(8) == _EXTENDED_SAR:
        reader.u(32)
    if reader.u(1):
        reader.u(1)  # overscan_appropriate_flag
    if reader.u(1):
        reader.u(4)  # video_format, video_full_range_flag
        if reader.u(1):
            reader.u(24)  # colour_primaries, transfer_characteristics, matrix_coefficients
    if reader.u(1):
        reader.ue()
        reader.ue()
    if reader.u(1):
        reader.u(65)  # num_units_in_tick, time_scale, fixed_frame_rate_flag
    nal, vcl = _skip_hrd(reader), _skip_hrd(reader)
    if nal or vcl:
        reader.u(1)  # low_delay_hrd_flag
    reader.u(1)  # pic_struct_present_flag


def _skip_hrd(reader: BitReader) -> bool:
    """E.1.2, where its flag says that it is there."""
    if not reader.u(1):
        return False
    count = reader.ue() + 1
    if count > 32:
        raise EndOfBits(f"{count} schedules in HRD parameters")
    reader.u(8)  # bit_rate_scale, cpb_size_scale
    for _ in range(count):
        reader.ue()
        reader.ue()
        reader.u(1)
    reader.u(20)
    return True


def _skip_picture_order(reader: BitReader) -> int:
    kind = reader.ue()
    if kind == 0:
        reader.ue()  # log2_max_pic_order_cnt_lsb_minus4
    elif kind == 1:
        reader.u(1)
        reader.se()
        reader.se()
        count = reader.ue()
        if count > 255:
            raise MalformedParameterSet(f"{count} reference frames in a picture order cycle")
        for _ in range(count):
            reader.se()
    return kind


def _skip_scaling_matrix(reader: BitReader, lists: int) -> None:
    """7.3.2.1.1.1: the values do not matter here, only where they end."""
    for index in range(lists):
        if not reader.u(1):
            continue
        last = following = 8
        for _ in range(16 if index < 6 else 64):
            if following:
                following = (last + reader.se()) % 256
            last = following or last
