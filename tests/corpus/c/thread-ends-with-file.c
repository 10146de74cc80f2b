/* Threads that end, each with a file open: descriptors are the process's, and outlive the thread. */
#include "corpus.h"
#include <pthread.h>

static void *work(void *fixed)
{
    int fd = check(open("/dev/null", O_WRONLY | O_CLOEXEC), "/dev/null"); /* LEAK */
    check((int)write(fd, "x", 1), "write");
    if (fixed)
        close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    int ended = 0;
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, is_fixed(argc, argv) ? argv : NULL) != 0)
            return 99;
        ended += pthread_join(thread, NULL) == 0;
    }
    printf("%d threads ended\n", ended);
    return 0;
}
