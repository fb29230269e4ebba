"""Fragmented MP4 (ISO/IEC 14496-12, CMAF ISO/IEC 23000-19): written from coded frames, read back, mended.

Lifecycle: tracks are values made of what a stream says of itself (`AvcTrack.of_access_unit`). `init_segment`
writes ftyp and moov of them once; a `Fragmenter` is then pushed frames and gives moof + mdat as they become
whole, until it is flushed. `read_init` and `read_fragments` read such files back, whole or cut off anywhere;
`closing_patches` gives the bytes that turn a file that is at its end into one with duration and index.
Times of pictures count 90000 a second, those of sound its sampling rate.
"""
