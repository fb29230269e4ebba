"""Recording of cameras and meetings, their playback, and the clips of violations.

Lifecycle: the recorder process opens one `RecordingFolder` and one `Disk` (the threads that touch files) and
enters one `RecordingKeeper`. That closes what an earlier life left open (`mend_unfinished`), then makes the
plan of main so: an `OrderKeeper` for each order, which runs one `Recorder` after another as streams come and
end, and a `PrerollKeeper` for each analysed camera, whose ring holds the last seconds. A `Recorder` writes
fragmented MP4 into files of about a minute, a row each, and returns a `RecordingEnded` that says why it
stopped. `ClipCutter` is the handler of the jobs that cut clips. `Retention.sweep` runs every minute. Leaving
the keeper closes every file; the disk is closed last. In main, `RecordingBook` makes the plan out of rows,
and `RecordingRoutes` lists, plays and removes what there is.
"""
