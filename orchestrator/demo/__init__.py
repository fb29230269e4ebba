"""The demonstration: a node with a seeded tree, a room in a running meeting, and a check that measures it.

`main` takes its folder (one run a folder), writes the node's configuration, seeds tree, accounts and room
(`seed`), seats the room (`room`: baresip, or a `terminal` of our own), starts `anshi run` as a program of
its own (`node`), opens the meeting and has the room dial in (`show`). Told to check, it listens on the wire
(`wire`) from before the node starts, brings in a browser (`browser`), watches for a minute what every side
sees, hears and sends (`watch`) and ends with the facts. Whatever the end, the node ends first, so that every
call hears its goodbye; then the room, then the folder is free again.
"""

from orchestrator.demo.run import main

__all__ = ["main"]
