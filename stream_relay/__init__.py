"""Cameras to viewers: sources, and the outputs that serve them.

A `CameraSource` stands for one camera for as long as it is configured. Its first holder starts the pull
(`CameraPull`, one RTSP session), its last one ends it after an idle time; between them connections come and
go, with back-off, under the same `Stream`s, which end only with the demand or when the picture's format
changes. A worker's `CameraKeeper` holds its sources by plan for the worker's life, opens their streams by
name and tells their states. An `RtspServer` (an `RtspGate` has one a network) plays streams to any number of
viewers: an `RtspOutlet` prints each frame once for all of a transport, an `RtspConnection` carries it to one,
and is dropped to the next key frame and at last disconnected where it is too slow. Closing a server ends its
connections, closing a source its pull.
"""
