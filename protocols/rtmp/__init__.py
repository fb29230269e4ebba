"""RTMP, bytes to values and back: AMF0, chunks, and a client that publishes or plays.

A `session` is made for one connection, fed what comes, asked what is to be sent, and let go with it.
"""
