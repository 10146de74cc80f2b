"""Files that are kept in a list. With "worker" the process ends as a worker does, without the interpreter's clean-up; else the
interpreter closes them in its last moment. "fixed": each is closed by a `with`."""

import os
import sys

kept = []


def tail():
    kept.append(open("/dev/null"))


def tail_and_close():
    with open("/dev/null") as file:
        file.read()


for _ in range(30):
    tail_and_close() if "fixed" in sys.argv else tail()
print("30 files", flush=True)
if "worker" in sys.argv:
    os._exit(0)
