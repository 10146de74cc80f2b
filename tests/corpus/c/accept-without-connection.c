/* A server that accepts until nobody waits any more. The kernel has made a socket before it finds that nobody does. */
#include "corpus.h"
#include <arpa/inet.h>
#include <sys/socket.h>

FRAME static bool serve(int listener, bool fixed)
{
    int fd = accept(listener, NULL, NULL); /* LEAK */
    if (fixed && fd >= 0)
        close(fd);
    return fd >= 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = check(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket"), served = 0;
    check(bind(listener, (struct sockaddr *)&address, length), "bind");
    check(listen(listener, 8), "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    for (int i = 0; i < 10; i++) {
        int client = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
        check(connect(client, (struct sockaddr *)&address, length), "connect");
        while (serve(listener, is_fixed(argc, argv)))
            served++;
        close(client);
    }
    close(listener);
    printf("%d served\n", served);
    return 0;
}
