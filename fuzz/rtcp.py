"""Fuzzes RTCP: `python -m fuzz.rtcp [seconds] [seed]`.

Mutations of fuzz/corpus/rtcp are parsed as compounds, printed and parsed again, and told to a sender that has
packets to repeat and to a receiver. Faults: any exception but MalformedRtcp, a compound that changes by
printing, repeats without bound.
"""

from __future__ import annotations

import random
import sys

from fuzz.campaign import main
from fuzz.messages import campaign
from media.rtp_receiver import ReceiverSettings, RtpReceiver
from media.rtp_sender import RetransmissionsDue, RtpSender, SenderSettings
from protocols.payloads.vp8 import Vp8Depacketizer
from protocols.rtp.rtcp import is_rtcp, parse_compound, print_compound
from protocols.rtp.rtcp_framing import MalformedRtcp

OURS, THEIRS = 1, 2
PACKETS = 60
MOST_REPEATED = 2000


def try_messages(messages: list[bytes], chance: random.Random) -> None:
    sender = RtpSender(
        SenderSettings(OURS, "ours", 96, 90_000, nack=True, rtx_ssrc=3, rtx_payload_type=97),
        random.Random(1),
    )
    receiver = RtpReceiver(
        ReceiverSettings(4, "ours", 90_000, {96: Vp8Depacketizer()}, expected_ssrc=THEIRS), random.Random(2)
    )
    now = 100.0
    sender.packets([bytes(50) for _ in range(PACKETS)], 0, now)
    for data in messages:
        is_rtcp(data)
        try:
            packets = parse_compound(data)
        except MalformedRtcp:
            continue
        printed = print_compound(packets)
        if print_compound(parse_compound(printed)) != printed:
            raise AssertionError("printed, parsed and printed again it is another compound")
        repeated = 0
        for event in sender.receive_rtcp(packets, now):
            if isinstance(event, RetransmissionsDue):
                repeated += len(event.packets)
        if repeated > MOST_REPEATED:
            raise AssertionError(f"{repeated} packets repeated for {len(data)} bytes")
        receiver.receive_rtcp(packets, now)
        now += chance.choice((0.0, 0.02, 1.0, 30.0))
        for report in (*receiver.poll(now), *sender.poll(now, 1_700_000_000.0 + now)):
            parse_compound(report)
        receiver.take_events()
        receiver.ntp_at(chance.randrange(1 << 32))
        sender.stats(now)
        receiver.stats(now)


if __name__ == "__main__":
    sys.exit(main([campaign("rtcp", try_messages)], sys.argv[1:]))
