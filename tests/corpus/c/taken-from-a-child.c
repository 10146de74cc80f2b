/* A supervisor takes a look at the socket of its child (pidfd_getfd), and forgets that the look is a descriptor. */
#include "corpus.h"
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

FRAME static int take(int child, int number)
{
    return (int)syscall(SYS_pidfd_getfd, child, number, 0); /* LEAK */
}

int main(int argc, char **argv)
{
    int ends[2], looks = 0;
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
    pid_t pid = check(fork(), "fork");
    if (pid == 0) {
        pause();
        _exit(0);
    }
    int child = check((int)syscall(SYS_pidfd_open, pid, 0), "pidfd_open");
    for (int i = 0; i < 30; i++) {
        int fd = check(take(child, ends[1]), "pidfd_getfd"), kind = 0;
        socklen_t length = sizeof kind;
        looks += getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &length) == 0 && kind == SOCK_STREAM;
        if (is_fixed(argc, argv))
            close(fd);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(child);
    close(ends[0]);
    close(ends[1]);
    printf("%d looks\n", looks);
    return 0;
}
