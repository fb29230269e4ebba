"""The test terminal: a room terminal on our own stack; of a meeting it knows what comes over the wire.

A `Studio` is entered first and left last: threads, clock and ticker that the terminals of one process share,
and the reels they play. A `RoomTerminal` opens its SIP endpoint, dials or answers, and has one `Session` a
call, whose `TerminalMedia` opens the ports, describes itself and runs a `Player` (what it sends) against a
`Screen` and an `Ear` (what it perceives). Hanging up closes the call's media and keeps its report; leaving
the terminal hangs up and closes the endpoint.
"""
