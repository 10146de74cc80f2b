import os


def first_byte(path):
    descriptor = os.open(path, os.O_RDONLY)
    return os.read(descriptor, 1)


def test_leaking():
    for _ in range(20):
        assert first_byte("/etc/hostname")
