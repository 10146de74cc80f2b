import socket

import pytest

import settings

PENDING = []


@pytest.fixture(scope="module")
def server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_clean(tmp_path):
    with open(tmp_path / "upload", "w") as file:
        file.write("x")


def test_shared(server):
    assert server.getsockname()[1]


def test_lazy():
    assert settings.load()


def test_garbage():
    class Upload:
        pass

    upload = Upload()
    upload.itself, upload.file = upload, open("/etc/passwd")


def test_leaking():
    PENDING.append(open("/etc/hostname"))
