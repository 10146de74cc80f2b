"""socket.fromfd makes a duplicate: whoever closes the original only, keeps it. "fixed": each is closed by a `with`."""

import os
import socket
import sys

kept = []


def look(listener):
    copy = socket.fromfd(listener.fileno(), socket.AF_INET, socket.SOCK_STREAM)
    name = copy.getsockname()
    kept.append(copy)
    return name


def look_and_close(listener):
    with socket.fromfd(listener.fileno(), socket.AF_INET, socket.SOCK_STREAM) as copy:
        return copy.getsockname()


with socket.create_server(("127.0.0.1", 0)) as listener:
    for _ in range(30):
        look_and_close(listener) if "fixed" in sys.argv else look(listener)
print("30 looks", flush=True)
os._exit(0)
