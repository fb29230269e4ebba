"""Recorder, segments and their index, retention; playback and evidence follow.

Lifecycle: a service opens one `RecordingFolder` and one `Disk` (the threads that touch files). At start
`mend_unfinished` closes what an earlier life left open. A `Recorder` then lives as long as one subject is
recorded: it reads a stream, writes fragmented MP4 into files of about a minute, a row each, and returns a
`RecordingEnded` that says why it stopped. `Retention.sweep` runs now and then. The disk is closed last.
"""
