// A bare descriptor in a function that may throw. "fixed": the same with a guard.
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <stdexcept>
#include <unistd.h>

namespace {

struct Guard {
    int fd;
    explicit Guard(int fd) : fd(fd) {}
    Guard(const Guard &) = delete;
    ~Guard() { close(fd); }
};

void read_header(int fd, bool bad)
{
    char byte;
    if (read(fd, &byte, 1) < 0 || bad)
        throw std::runtime_error("no header");
}

__attribute__((noinline)) void load(bool bad)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC); // LEAK
    read_header(fd, bad);
    close(fd);
}

__attribute__((noinline)) void load_guarded(bool bad)
{
    Guard guard(open("/dev/null", O_RDONLY | O_CLOEXEC));
    read_header(guard.fd, bad);
}

} // namespace

int main(int argc, char **argv)
{
    bool fixed = argc > 1 && std::strcmp(argv[1], "fixed") == 0;
    int errors = 0;
    for (int i = 0; i < 60; i++) {
        try {
            (fixed ? load_guarded : load)(i % 2 == 0);
        } catch (const std::runtime_error &) {
            errors++;
        }
    }
    std::printf("%d errors\n", errors);
}
