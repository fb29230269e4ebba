"""RTP and RTCP as bytes and values (RFC 3550, RFC 4585, RFC 5104, RFC 5506, RFC 5761, RFC 8285).

Lifecycle: none. A datagram is sorted by `rtcp.is_rtcp`, then `packet.RtpPacket.parse` or
`rtcp.parse_compound` turns it into frozen values, which print themselves again. Senders that must be quick
build only the header with `packet.header` and keep the payload bytes shared. Streams, statistics and timers
live in `media`.
"""
