"""The media abstraction that meetings and surveillance share.

A source makes one `Stream`; whoever wants its frames opens a `Reader` and iterates it until the
stream ends or the reader is closed. Frames are whole and coded (`Packet`): one access unit, one
audio frame. Bytes come in through a `MediaTransport`, pass an `RtpReceiver`, become packets; packets
leave through an `RtpSender` and a transport again. Codec contexts live in `codec_worker` lanes, the
only place where threads touch PyAV. `link` carries a stream whole to another process.
"""
