"""`python -m benchmarks._drain HOST COUNT`: COUNT UDP receivers that only empty their sockets.

Prints the ports as one JSON line, then, once standard input ends, how many datagrams and bytes each got.
"""

import json
import selectors
import socket
import sys


def main() -> None:
    host, count = sys.argv[1], int(sys.argv[2])
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    totals = {sock.fileno(): [0, 0] for sock in sockets}
    selector = selectors.EpollSelector()
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        sock.bind((host, 0))
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    print(json.dumps([sock.getsockname()[1] for sock in sockets]), flush=True)
    buffer = bytearray(65536)
    ended = False
    while not ended:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                ended = True
            elif isinstance(key.fileobj, socket.socket):
                _empty(key.fileobj, totals[key.fd], buffer)
    print(json.dumps(list(totals.values())), flush=True)


def _empty(sock: socket.socket, total: list[int], buffer: bytearray) -> None:
    while True:
        try:
            total[1] += sock.recv_into(buffer)
        except BlockingIOError:
            return
        total[0] += 1


if __name__ == "__main__":
    main()
