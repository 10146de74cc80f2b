"""Temporary files by name: the descriptor that comes with the name is overlooked."""

import os
import sys
import tempfile


def save(data, fixed):
    descriptor, path = tempfile.mkstemp()
    if fixed:
        os.close(descriptor)
    with open(path, "wb") as file:
        file.write(data)
    os.unlink(path)


for _ in range(20):
    save(b"x", "fixed" in sys.argv)
print("20 files")
