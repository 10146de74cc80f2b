/* Workers that share a listening socket; each has its log and one connection at a time. */
#include "corpus.h"
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { WORKERS = 6, REQUESTS = 24 };

FRAME static void work(int listener)
{
    int log = check(open("/dev/null", O_WRONLY | O_CLOEXEC), "log");
    for (char byte = 'a'; byte != 'q';) {
        int fd = check(accept(listener, NULL, NULL), "accept");
        check((int)read(fd, &byte, 1), "read");
        check((int)write(log, &byte, 1), "write");
        check((int)write(fd, &byte, 1), "write");
        close(fd);
    }
}

static int ask(const struct sockaddr_in *address, char byte)
{
    int fd = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    check(connect(fd, (const struct sockaddr *)address, sizeof *address), "connect");
    check((int)write(fd, &byte, 1), "write");
    int got = (int)read(fd, &byte, 1);
    close(fd);
    return got;
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"), answers = 0;
    check(bind(listener, (struct sockaddr *)&address, length), "bind");
    check(listen(listener, REQUESTS), "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    for (int i = 0; i < WORKERS; i++)
        if (check(fork(), "fork") == 0) {
            work(listener);
            _exit(0);
        }
    for (int i = 0; i < REQUESTS; i++)
        answers += ask(&address, 'a');
    for (int i = 0; i < WORKERS; i++)
        ask(&address, 'q');
    while (wait(NULL) > 0)
        ;
    printf("%d answers\n", answers);
    return 0;
}
