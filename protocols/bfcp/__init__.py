"""The Binary Floor Control Protocol (RFC 8855), bytes to values and back, and a floor control server.

`message` and `attributes` parse and print, `fragments` joins large messages; `floor_control_server` is the
server's whole behaviour without sockets or a clock, with the `transactions` of each participant: bytes of a
participant and `now` go in, messages and events come out.
"""
