"""`python -m benchmarks._rtsp_players PORT READERS STALLED SECONDS`: RTSP/TCP players that count what comes.

STALLED of them more play and read nothing. Prints one JSON line when all play (milliseconds from each
reader's PLAY to its first whole frame), then, SECONDS later, the bytes that came and, beside stalled ones,
the RTP packets missing. Without them the players only read, as those of `_rtmp_players` do.
"""

import json
import selectors
import socket
import sys
import time

from protocols.rtsp.framing import Interleaved, RtspFramer

HOST = "127.0.0.1"
STALLED_BUFFER = 4096  # else the kernel would hold for a stalled player whatever is sent in the time


class Player:
    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect((HOST, port))
        self.bytes = self.lost = 0
        self.first_frame: float | None = None
        self._framer = RtspFramer()
        self._next: int | None = None
        url = f"rtsp://{HOST}:{port}/bench"
        transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"
        self.socket.sendall(f"SETUP {url}/trackID=0 RTSP/1.0\r\nCSeq: 1\r\n{transport}\r\n\r\n".encode())
        self.socket.recv(4096)
        self._asked = time.monotonic()
        self.socket.sendall(f"PLAY {url} RTSP/1.0\r\nCSeq: 2\r\n\r\n".encode())

    def read(self) -> None:
        self.bytes += len(self.socket.recv(1 << 18))

    def read_packets(self) -> None:
        data = self.socket.recv(1 << 18)
        self.bytes += len(data)
        for event in self._framer.feed(data):
            if isinstance(event, Interleaved) and event.channel == 0:
                self._take(event.data)

    def _take(self, packet: bytes) -> None:
        number = packet[2] << 8 | packet[3]
        if self._next is not None:
            self.lost += (number - self._next) & 0xFFFF
        self._next = (number + 1) & 0xFFFF
        if self.first_frame is None and packet[1] & 0x80:
            self.first_frame = 1000 * (time.monotonic() - self._asked)


def main() -> None:
    port, readers, stalled, seconds = map(int, sys.argv[1:])
    players: list[Player] = []
    for _ in range(readers):
        player = Player(port)
        while player.first_frame is None:
            player.read_packets()
        players.append(player)
    idle = [Player(port, STALLED_BUFFER) for _ in range(stalled)]
    selector = selectors.EpollSelector()
    for number, player in enumerate(players):
        selector.register(player.socket, selectors.EVENT_READ, number)
        player.bytes = 0
    print(json.dumps([player.first_frame for player in players]), flush=True)
    read = Player.read_packets if stalled else Player.read
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select(0.1):
            read(players[key.data])
    print(json.dumps([sum(one.bytes for one in players), sum(one.lost for one in players)]), flush=True)
    for player in idle:
        player.socket.close()


if __name__ == "__main__":
    main()
