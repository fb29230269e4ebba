"""Low-latency HLS (RFC 8216bis, draft-pantos-hls-rfc8216bis): a stream as parts in memory, for any crowd.

Lifecycle: a `LiveBroadcast` runs as long as its stream: it cuts fragments, puts them as parts into a
`LivePlaylist`, which holds the last segments and nothing on disk, and wakes the requests that wait for them.
`hls_routes` serves what `resolve` finds; at the stream's end the playlist says so, and the broadcast stays
for late viewers until its owner drops it.
"""
