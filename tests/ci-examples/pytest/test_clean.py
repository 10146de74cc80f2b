import os


def test_clean():
    for _ in range(5):
        with open("/etc/hostname") as file:
            assert file.read()
    for _ in range(5):
        read, write = os.pipe()
        os.close(read)
        os.close(write)
