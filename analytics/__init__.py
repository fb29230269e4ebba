"""Cameras looked at by machine: what is seen, and what of it breaks a rule.

Lifecycle: a vision process loads one model package and opens one `InferencePool` for it and one `CodecPool`
for decoding; both outlive every camera. A `Sampler` lives as long as one camera is analysed: it holds the
camera's stream, opens it anew when it ends, and gives a `Sample` about once a second, or says that the
camera is lost. A `CameraWatcher` takes these one after another through tracker and rules and has what they
flag written down; `VisionKeeper` makes it when a plan names the camera, changes its rules in place, and gives
it up with the plan that does not. Samplers are closed first, then the pools.
"""
