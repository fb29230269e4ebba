"""Session descriptions (RFC 4566, RFC 8866): lines in, a frozen value out, and back.

`SessionDescription.parse` keeps every attribute in order, the known ones and the strange ones, so
that nothing a peer said is lost before the domains look at it; `attributes` reads the values that
the product understands. No lifecycle: a description is a value.
"""

from protocols.sdp.attributes import (
    Bandwidth,
    Candidate,
    Crypto,
    Fingerprint,
    FloorId,
    FormatParameters,
    InlineKey,
    RtcpFeedback,
    RtpMap,
)
from protocols.sdp.session import Connection, Media, Origin, SdpError, SessionDescription

__all__ = [
    "Bandwidth",
    "Candidate",
    "Connection",
    "Crypto",
    "Fingerprint",
    "FloorId",
    "FormatParameters",
    "InlineKey",
    "Media",
    "Origin",
    "RtcpFeedback",
    "RtpMap",
    "SdpError",
    "SessionDescription",
]
