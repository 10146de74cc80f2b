"""Part of the program that is tested."""

_file = None


def load():
    global _file
    if _file is None:
        _file = open("/etc/passwd")
    return _file
