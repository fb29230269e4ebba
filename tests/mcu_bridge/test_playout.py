import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mcu_bridge.playout import FADE_FRAMES, LEAST, MOST, OVERFULL, PATIENT, PlayoutQueue, continue_sound
from media.resampling import Samples
from media.sound_codecs import FRAME, RATE

FREQUENCY = 440.0


class Sender:
    """A tone whose clock runs `ppm` fast, cut into packets."""

    def __init__(self, packet: int = FRAME) -> None:
        self.packet = packet
        self.sent = 0

    def next(self) -> Samples:
        positions = np.arange(self.packet) + self.sent
        self.sent += self.packet
        return np.asarray(np.rint(np.sin(positions * 2 * np.pi * FREQUENCY / RATE) * 8000), np.int16)


def run(queue: PlayoutQueue, seconds: float, ppm: float = 0.0, packet: int = FRAME) -> list[Samples | None]:
    sender = Sender(packet)
    frames = []
    for tick in range(int(seconds * 50)):
        due = (tick * FRAME + LEAST) * (1 + ppm * 1e-6)
        while sender.sent < due:
            queue.push(sender.next())
        frames.append(queue.pop(quiet=False))
    return frames


def joined(frames: list[Samples | None]) -> Samples:
    return np.concatenate([frame for frame in frames if frame is not None])


def gaps(frames: list[Samples | None]) -> int:
    return sum(frame is None for frame in frames)


def steepest(samples: Samples) -> float:
    return float(np.abs(np.diff(samples.astype(np.int32))).max())


SLOPE = 2 * np.pi * FREQUENCY / RATE * 8000


def test_sound_comes_out_as_it_went_in_after_40_ms() -> None:
    queue = PlayoutQueue()
    sender = Sender()
    queue.push(sender.next())
    assert queue.pop(quiet=False) is None
    out = []
    for _ in range(50):
        queue.push(sender.next())
        out.append(queue.pop(quiet=False))
    reference = Sender(50 * FRAME).next()
    assert np.array_equal(joined(out), reference)
    assert queue.depth == 0.020
    assert queue.target == 0.040


def test_a_clock_that_drifts_is_followed_without_a_gap_or_a_click() -> None:
    for ppm in (-300, -50, 50, 300):
        queue = PlayoutQueue()
        frames = run(queue, 120, ppm)
        assert gaps(frames) == 0
        assert queue.counts.underruns <= 1  # the first slip teaches a slow source's depth
        assert queue.counts.overrun == 0
        assert queue.depth < 0.100
        assert steepest(joined(frames)) < SLOPE * 1.25
        corrected = queue.counts.shrunk if ppm > 0 else queue.counts.stretched
        assert corrected > abs(ppm) * 1e-6 * 100 * RATE - 2 * FRAME


def test_how_long_a_packet_waits_is_known() -> None:
    """Two packets lie there at each turn: one waits for a turn, and half of one more in the mean."""
    queue, sender = PlayoutQueue(), Sender()
    queue.push(sender.next())
    for _ in range(200):
        queue.push(sender.next())
        queue.pop(quiet=False)
    assert abs(queue.waited - 0.030) < 0.002


def test_packets_of_other_lengths_settle_within_the_most_depth() -> None:
    for packet in (480, 1440, 2880):
        queue = PlayoutQueue()
        frames = run(queue, 20, packet=packet)
        assert gaps(frames[500:]) == 0
        assert queue.target <= MOST / RATE
        early = queue.counts.underruns
        run(queue, 5, packet=packet)
        assert early <= 4


def test_a_missing_packet_is_continued_and_teaches_a_greater_depth() -> None:
    queue = PlayoutQueue()
    sender = Sender()
    queue.push(sender.next())
    frames = []
    for n in range(100):
        if n not in (50, 51):  # two packets late by 40 ms
            queue.push(sender.next())
        if n == 52:
            queue.push(sender.next())
            queue.push(sender.next())
        frames.append(queue.pop(quiet=False))
    assert gaps(frames[1:]) == 0
    assert queue.counts.underruns == 1
    assert queue.counts.concealed == 1
    assert queue.target == 0.060
    assert steepest(joined(frames)) < SLOPE * 1.6


def test_a_source_that_stops_fades_out_and_is_silent_until_it_is_filled_again() -> None:
    queue = PlayoutQueue()
    run(queue, 1)
    rest = [queue.pop(quiet=False) for _ in range(10)]
    frames = [frame for frame in rest if frame is not None]
    assert len(frames) == 1 + FADE_FRAMES  # what was held, and its continuation
    assert queue.counts.concealed == FADE_FRAMES
    assert np.abs(frames[-1][-100:]).max() < 300
    assert rest[-1] is None
    assert queue.counts.underruns == 1
    sender = Sender()
    queue.push(sender.next())
    assert queue.pop(quiet=False) is None
    for _ in range(3):
        queue.push(sender.next())
    assert queue.pop(quiet=False) is not None


def test_lost_packets_are_filled_so_that_the_depth_stays() -> None:
    queue = PlayoutQueue()
    sender = Sender()
    queue.push(sender.next())
    frames = []
    for n in range(200):
        samples = sender.next()
        if n % 10 == 5:
            queue.push_lost(FRAME)
        else:
            queue.push(samples)
        frames.append(queue.pop(quiet=False))
    assert gaps(frames) == 0
    assert queue.counts.underruns == 0
    assert queue.counts.lost == 20 * FRAME
    signal = joined(frames).astype(np.float64)
    amplitude = np.abs(np.fft.rfft(signal))[round(FREQUENCY * len(signal) / RATE)] / len(signal) * 2
    assert amplitude > 6000  # mostly the tone, in phase


def test_a_burst_is_cut_back_at_once_and_counted() -> None:
    queue = PlayoutQueue()
    sender = Sender()
    for _ in range(30):  # 600 ms at once
        queue.push(sender.next())
    assert queue.depth <= OVERFULL / RATE
    assert queue.counts.overrun > 0
    queue.push(np.zeros(48_000, np.int16))
    assert queue.depth <= OVERFULL / RATE


def test_excess_is_worked_off_faster_in_quiet() -> None:
    depths = {}
    for quiet in (True, False):
        queue = PlayoutQueue()
        sender = Sender()
        for _ in range(7):
            queue.push(sender.next())
        for _ in range(100):
            queue.push(sender.next())
            queue.pop(quiet=quiet)
        depths[quiet] = queue.depth
    assert depths[True] < 0.050 < depths[False]


def test_continued_sound_keeps_its_pitch_and_fades() -> None:
    past = Sender(2 * FRAME).next()
    sound = continue_sound(past, FADE_FRAMES * FRAME, 0)
    whole = np.concatenate((past, sound[:FRAME]))
    assert steepest(whole) < SLOPE * 1.5
    spectrum = np.abs(np.fft.rfft(sound[:FRAME].astype(np.float64)))
    assert abs(int(spectrum.argmax()) * RATE / FRAME - FREQUENCY) <= RATE / FRAME
    assert np.abs(sound[-48:]).max() < 200
    assert not continue_sound(past, FRAME, FADE_FRAMES).any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1, 3000), max_size=60))
def test_no_order_of_events_breaks_the_queue(events: list[int]) -> None:
    """Packets of any length, and ticks (-1); what goes in comes out, is held or is counted."""
    queue = PlayoutQueue()
    played = 0
    for event in events:
        if event >= 0:
            queue.push(np.ones(event, np.int16))
        elif (frame := queue.pop(quiet=True)) is not None:
            assert frame.shape == (FRAME,)
            played += FRAME
        assert 0 <= queue.depth * RATE <= OVERFULL + 0.5
    counts = queue.counts
    held = round(queue.depth * RATE)
    assert held + counts.overrun <= counts.received
    assert played + held + counts.overrun <= counts.received + counts.stretched + counts.concealed * FRAME


def test_a_camera_that_sends_a_quarter_of_a_second_at_once_is_heard_whole() -> None:
    packet = RATE * 256 // 1000
    hasty, patient = PlayoutQueue(), PlayoutQueue(PATIENT)
    for queue in (hasty, patient):
        run(queue, 8.0, packet=packet)
    assert hasty.counts.overrun > RATE, "what a site's queue would throw away"
    assert patient.counts.overrun == 0
    before = patient.counts.underruns
    assert gaps(run(patient, 10.0, packet=packet)[50:]) == 0
    assert patient.counts.underruns <= before + 2
    assert patient.target <= 0.4
