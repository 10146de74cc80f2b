/* A parent that is careful, and a child that is not. */
#include "corpus.h"
#include <sys/wait.h>

FRAME static void work(bool fixed)
{
    for (int i = 0; i < 20; i++) {
        int fd = check(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null"); /* LEAK */
        if (fixed)
            close(fd);
    }
}

int main(int argc, char **argv)
{
    pid_t child = check(fork(), "fork");
    if (child == 0) {
        work(is_fixed(argc, argv));
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    work(true);
    printf("the child ended with %d\n", status);
    return 0;
}
