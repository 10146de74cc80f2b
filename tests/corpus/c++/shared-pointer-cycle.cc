// A session and its connection that own each other. "fixed": the way back does not own.
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <unistd.h>

struct Session;

struct Connection {
    int fd;
    std::shared_ptr<Session> owner;
    std::weak_ptr<Session> user;

    __attribute__((noinline)) Connection() : fd(open("/dev/null", O_RDWR | O_CLOEXEC)) {} // LEAK
    ~Connection() { close(fd); }
};

struct Session {
    std::shared_ptr<Connection> connection;
};

static bool serve(bool fixed)
{
    auto session = std::make_shared<Session>();
    session->connection = std::make_shared<Connection>();
    if (fixed)
        session->connection->user = session;
    else
        session->connection->owner = session;
    return write(session->connection->fd, "x", 1) == 1;
}

int main(int argc, char **argv)
{
    bool fixed = argc > 1 && std::strcmp(argv[1], "fixed") == 0;
    int served = 0;
    for (int i = 0; i < 20; i++)
        served += serve(fixed);
    std::printf("%d sessions\n", served);
}
