/* A server that answers and forgets the connection. */
#include "corpus.h"
#include <arpa/inet.h>
#include <sys/socket.h>

FRAME static void serve(int listener, bool fixed)
{
    int fd = check(accept(listener, NULL, NULL), "accept"); /* LEAK */
    check(write(fd, "hello", 5), "write");
    if (fixed)
        close(fd);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = check(socket(AF_INET, SOCK_STREAM, 0), "socket"), answers = 0;
    check(bind(listener, (struct sockaddr *)&address, length), "bind");
    check(listen(listener, 8), "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    for (int i = 0; i < 30; i++) {
        char text[5];
        int client = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
        check(connect(client, (struct sockaddr *)&address, length), "connect");
        serve(listener, is_fixed(argc, argv));
        answers += recv(client, text, sizeof text, MSG_WAITALL) == 5;
        close(client);
    }
    close(listener);
    printf("%d answers\n", answers);
    return 0;
}
