"""`python -m benchmarks._rtmp_players PORT READERS SECONDS`: RTMP players that count what comes.

Prints one line when all are given the stream, then, SECONDS later, the bytes that came in that time.
"""

import selectors
import socket
import sys
import time

from protocols.rtmp.session import Media, RtmpSession, parse_rtmp_url

HOST = "127.0.0.1"


class Player:
    def __init__(self, port: int) -> None:
        self.bytes = 0
        self._session = RtmpSession(parse_rtmp_url(f"rtmp://{HOST}:{port}/live/bench"), publishing=False)
        self.socket = socket.create_connection((HOST, port), 10)
        self.socket.sendall(self._session.take())
        while not any(isinstance(event, Media) for event in self._session.feed(self.socket.recv(1 << 18))):
            if out := self._session.take():
                self.socket.sendall(out)

    def read(self) -> None:
        self.bytes += len(self.socket.recv(1 << 18))


def main() -> None:
    port, readers, seconds = map(int, sys.argv[1:])
    players = [Player(port) for _ in range(readers)]
    selector = selectors.DefaultSelector()
    for player in players:
        selector.register(player.socket, selectors.EVENT_READ, player)
    print("playing", flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select(0.1):
            key.data.read()
    print(sum(player.bytes for player in players), flush=True)


if __name__ == "__main__":
    main()
