"""Messages there and back, and how long a round trip takes. Each side can be this program, ../ping_pong.c,
../ping_pong.cpp or ipc-core/examples/ping_pong.rs.

    python3 ping_pong.py server court & python3 ping_pong.py client court
"""

import sys
import time

import ipc

ROUNDS = 10_000


def serve(client: ipc.Connection) -> None:
    """Sends everything back, until the client goes."""
    for message in client:
        client.send(bytes(message))


def play(server: ipc.Connection) -> None:
    start = time.perf_counter()
    for ball in range(ROUNDS):
        server.send(ball.to_bytes(8, sys.byteorder))
        back = int.from_bytes(server.recv(), sys.byteorder)
        if back != ball:
            raise ValueError(f"ball {ball} came back as {back}")
    each = (time.perf_counter() - start) / ROUNDS
    print(f"{ROUNDS} round trips, {each * 1e6:.2f} us each")


match sys.argv[1:]:
    case ["server", name]:
        with ipc.Listener(name) as listener, listener.accept() as connection:
            serve(connection)
    case ["client", name]:
        with ipc.connect(name, wait=10) as connection:
            play(connection)
    case _:
        sys.exit("usage: ping_pong.py server|client NAME")
