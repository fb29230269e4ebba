"""Cameras, recordings, analysis and broadcasts as figures for Prometheus: what their processes said last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from foundation.desks import BroadcastStatus, CameraStatus, RecorderReport, VisionReport
from foundation.telemetry import Telemetry


class SurveillanceGauges:
    """`set` says how things are now; what is no longer there is no longer exposed."""

    def __init__(self, telemetry: Telemetry) -> None:
        gauge = telemetry.gauge
        self._cameras = gauge("anshi_cameras", "Cameras by state", "state")
        self._bitrate = gauge("anshi_camera_bits_per_second", "What a camera sends", "camera")
        self._damaged = gauge("anshi_camera_damaged_frames", "Frames that missed bytes", "camera")
        self._recordings = gauge("anshi_recordings", "Recording orders by state", "state")
        self._dropped = gauge("anshi_recording_dropped_frames", "Lost to a slow disk", "kind", "subject")
        self._disk = gauge("anshi_recordings_free_bytes", "Free where recordings are kept")
        self._analysed = gauge("anshi_analysed_cameras", "Cameras that are looked at, by state", "state")
        self._rate = gauge("anshi_analysis_rate", "Looks a second", "camera", "what")
        self._load = gauge("anshi_inference_load", "Share of the inference threads in use")
        self._viewers = gauge("anshi_broadcast_viewers", "Viewers of a broadcast", "name")
        self._sent = gauge("anshi_broadcast_sent_bytes", "Sent to viewers of a broadcast", "name")

    def set(
        self,
        cameras: Mapping[str, CameraStatus],
        vision: VisionReport | None,
        recorder: RecorderReport | None,
        broadcasts: Mapping[str, BroadcastStatus],
    ) -> None:
        for gauge in (self._cameras, self._bitrate, self._damaged, self._recordings, self._dropped):
            gauge.clear()
        for gauge in (self._analysed, self._rate, self._viewers, self._sent):
            gauge.clear()
        for state, count in Counter(str(one.state) for one in cameras.values()).items():
            self._cameras.labels(state).set(count)
        for camera_id, camera in cameras.items():
            self._bitrate.labels(camera_id).set(camera.bitrate_bps)
            self._damaged.labels(camera_id).set(camera.damaged)
        if recorder is not None:
            self._set_recorder(recorder)
        if vision is not None:
            self._set_vision(vision)
        for name, broadcast in broadcasts.items():
            self._viewers.labels(name).set(broadcast.viewers)
            self._sent.labels(name).set(broadcast.sent_bytes)

    def _set_recorder(self, recorder: RecorderReport) -> None:
        self._disk.set(recorder.free_bytes)
        for state, count in Counter(one.state for one in recorder.statuses).items():
            self._recordings.labels(state).set(count)
        for one in recorder.statuses:
            self._dropped.labels(one.kind, one.subject).set(one.dropped)

    def _set_vision(self, vision: VisionReport) -> None:
        self._load.set(vision.load)
        for state, count in Counter(one.state for one in vision.cameras).items():
            self._analysed.labels(state).set(count)
        for one in vision.cameras:
            self._rate.labels(one.camera_id, "wanted").set(one.wanted_rate)
            self._rate.labels(one.camera_id, "achieved").set(one.achieved_rate)
