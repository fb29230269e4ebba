"""RTSP 1.0 (RFC 2326) as bytes and values: nothing here sends, waits or reads a clock.

Life of a connection: bytes go through `RtspFramer`, which cuts them into messages and interleaved packets;
`parse_message` makes a Request or Response of a message. `ClientSession` plays one presentation: it is
started, fed with bytes, told which tracks to set up, asked for what to send, and torn down; what happens
comes out as events. A server answers Requests with Responses of its own making. `description` reads tracks.
"""
