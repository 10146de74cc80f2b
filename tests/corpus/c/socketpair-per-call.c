/* Two sockets for each call; both are forgotten. They are one leak, not two. */
#include "corpus.h"
#include <sys/socket.h>

FRAME static int call(bool fixed)
{
    int ends[2];
    char byte;
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair"); /* LEAK */
    check((int)write(ends[0], "x", 1), "write");
    int got = (int)read(ends[1], &byte, 1);
    if (fixed) {
        close(ends[0]);
        close(ends[1]);
    }
    return got;
}

int main(int argc, char **argv)
{
    int bytes = 0;
    for (int i = 0; i < 25; i++)
        bytes += call(is_fixed(argc, argv));
    printf("%d bytes\n", bytes);
    return 0;
}
