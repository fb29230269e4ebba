"""Cameras looked at by machine: what is seen, and what of it breaks a rule.

Lifecycle: a vision process loads one model package and opens one `InferencePool` for it and one `CodecPool`
for decoding; both outlive every camera. A `Sampler` lives as long as one camera is analysed: it holds the
camera's stream, opens it anew when it ends, and gives a `Sample` about once a second, or says that the
camera is lost. A rule set made of the camera's rules takes these one after another and says what it found;
it is given up with the plan that named it. Samplers are closed first, then the pools.
"""
