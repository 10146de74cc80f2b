/* A service that is judged by what grows: clients come and stay, by a socket in the file system or not; or they go, and
 * their sockets are forgotten; or each brings a helper of its own. */
#include "corpus.h"
#include <arpa/inet.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un local = {.sun_family = AF_UNIX};
static struct sockaddr_in four = {.sin_family = AF_INET};
static struct sockaddr *address;
static socklen_t length;

static int listening(bool by_network)
{
    address = by_network ? (struct sockaddr *)&four : (struct sockaddr *)&local;
    length = by_network ? sizeof four : sizeof local.sun_family;
    four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = check(socket(address->sa_family, SOCK_STREAM, 0), "socket");
    /* The kernel chooses an abstract name, or a port. */
    check(bind(listener, address, length), "bind");
    check(listen(listener, 8), "listen");
    length = by_network ? sizeof four : sizeof local;
    check(getsockname(listener, address, &length), "getsockname");
    return listener;
}

static void be_client(bool go)
{
    int client = check(socket(address->sa_family, SOCK_STREAM, 0), "socket");
    char byte;
    if (connect(client, address, length) < 0 || read(client, &byte, 1) != 1)
        _exit(0);
    /* Whoever stays is told by the end of the connection that the service has gone. */
    while (!go && read(client, &byte, 1) > 0)
        continue;
    _exit(0);
}

/* Each client is a process, as they are anywhere. */
static void be_clients(int listener, bool go)
{
    close(listener);
    signal(SIGCHLD, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        if (check(fork(), "fork") == 0)
            be_client(go);
        sleep_ms(20);
    }
}

FRAME static int accepted(int listener)
{
    return check(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept4"); /* LEAK */
}

FRAME static int helper(void)
{
    return check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1"); /* LEAK */
}

int main(int argc, char **argv)
{
    int listener = listening(has_word(argc, argv, "tcp"));
    if (check(fork(), "fork") == 0)
        be_clients(listener, has_word(argc, argv, "go"));
    for (int i = 0; i < 200; i++) {
        int fd = accepted(listener);
        check(write(fd, "1", 1), "write");
        if (has_word(argc, argv, "helper"))
            helper();
        if (is_fixed(argc, argv) || has_word(argc, argv, "helper"))
            close(fd);
    }
    return 0;
}
