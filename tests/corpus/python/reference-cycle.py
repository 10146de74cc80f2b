"""Objects in a cycle, each with a file. Collection is off, as programs do that care for latency."""

import gc
import os
import sys


class Node:
    def __init__(self):
        self.file = open("/dev/zero", "rb", buffering=0)
        self.me = None if "fixed" in sys.argv else self


gc.disable()
total = sum(len(Node().file.read(1)) for _ in range(25))
print(total, "bytes", flush=True)
os._exit(0)
