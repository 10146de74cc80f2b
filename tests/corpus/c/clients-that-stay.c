/* A server whose clients stay connected, and what looks like one. The clients are in a child process, which is told that
 * the server has gone by the end of a pipe. */
#include "corpus.h"
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

enum { CLIENTS = 30 };

static union {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    struct sockaddr_un local;
} address;
static socklen_t length;

static int listening(bool six)
{
    if (six) {
        address.six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        length = sizeof address.six;
    } else {
        address.four = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        length = sizeof address.four;
    }
    int listener = check(socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    check(bind(listener, &address.any, length), "bind");
    check(listen(listener, CLIENTS), "listen");
    check(getsockname(listener, &address.any, &length), "getsockname");
    return listener;
}

FRAME static int connected(void)
{
    int client = check(socket(address.any.sa_family, SOCK_STREAM, 0), "socket"); /* LEAK */
    check(connect(client, &address.any, length), "connect");
    return client;
}

FRAME static int accepted(int listener)
{
    return check(accept(listener, NULL, NULL), "accept"); /* LEAK */
}

/* Connects, and stays until the server has gone; or hangs up at once; or never lets go. */
static void be_clients(int end, bool hang_up, bool forget)
{
    int clients[CLIENTS];
    char byte;
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connected();
        check(read(clients[i], &byte, 1), "read");
        if (hang_up)
            shutdown(clients[i], SHUT_WR);
    }
    while (read(end, &byte, 1) > 0)
        continue;
    for (int i = 0; i < CLIENTS && !forget; i++)
        close(clients[i]);
    _exit(0);
}

int main(int argc, char **argv)
{
    int listener = listening(has_word(argc, argv, "six")), gone[2], sockets[CLIENTS];
    bool itself = has_word(argc, argv, "itself"), forget = has_word(argc, argv, "forget");
    check(pipe(gone), "pipe");
    if (!itself && check(fork(), "fork") == 0) {
        close(gone[1]);
        close(listener);
        be_clients(gone[0], has_word(argc, argv, "hang-up"), forget);
    }
    for (int i = 0; i < CLIENTS; i++) {
        if (itself)
            connected();
        sockets[i] = accepted(listener);
        check(write(sockets[i], "1", 1), "write");
    }
    for (int i = 0; i < CLIENTS && is_fixed(argc, argv); i++)
        close(sockets[i]);
    printf("%d clients\n", CLIENTS);
    if (has_word(argc, argv, "hang-up"))
        sleep_ms(50);
    if (forget) {
        close(gone[1]);
        wait(NULL);
    }
    return 0;
}
