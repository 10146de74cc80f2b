/* A daemon by two forks. It ends a moment after the command. With "log" it has one file open, all the time. */
#include "corpus.h"
#include <sys/wait.h>

FRAME static void handle(void)
{
    int fd = check(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null"); /* LEAK */
    check((int)write(fd, "x", 1), "write");
}

int main(int argc, char **argv)
{
    puts("started");
    fflush(stdout);
    pid_t first = check(fork(), "fork");
    if (first > 0) {
        waitpid(first, NULL, 0);
        return 0;
    }
    setsid();
    if (check(fork(), "fork") > 0)
        _exit(0);
    int null = check(open("/dev/null", O_RDWR), "/dev/null");
    for (int fd = 0; fd <= 2; fd++)
        dup2(null, fd);
    close(null);
    for (int i = 0; i < (has_word(argc, argv, "log") ? 1 : 20); i++)
        handle();
    sleep_ms(80);
    return 0;
}
