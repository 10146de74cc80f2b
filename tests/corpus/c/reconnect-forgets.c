/* Connects anew and puts the new socket where the old one was. */
#include "corpus.h"
#include <arpa/inet.h>
#include <sys/socket.h>

struct client {
    int fd;
};

FRAME static void reconnect(struct client *client, bool fixed)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fixed && client->fd >= 0)
        close(client->fd);
    client->fd = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"); /* LEAK */
    check(connect(client->fd, (struct sockaddr *)&address, sizeof address), "connect");
}

int main(int argc, char **argv)
{
    struct client client = {.fd = -1};
    for (int i = 0; i < 25; i++)
        reconnect(&client, is_fixed(argc, argv));
    puts("connected 25 times");
    return 0;
}
