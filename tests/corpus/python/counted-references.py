"""Nobody closes these files, and they are closed all the same: nothing refers to them any more."""


def size(path):
    return len(open(path, "rb", buffering=0).read(1))


print(sum(size("/dev/zero") for _ in range(50)), "bytes")
