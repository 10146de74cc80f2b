/* Changes the signals it waits for by a new signalfd, where the old one can be given. */
#include "corpus.h"
#include <signal.h>
#include <sys/signalfd.h>

FRAME static int wait_for(int old, int number)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return check(signalfd(old, &set, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd"); /* LEAK */
}

int main(int argc, char **argv)
{
    int fd = -1, seen = 0;
    for (int i = 0; i < 25; i++) {
        struct signalfd_siginfo info;
        fd = wait_for(is_fixed(argc, argv) ? fd : -1, SIGUSR1);
        raise(SIGUSR1);
        seen += read(fd, &info, sizeof info) == sizeof info;
    }
    printf("%d signals\n", seen);
    return 0;
}
