/* Threads that open and close files at the same time; each file is closed by another thread than the one that opened it. */
#include "corpus.h"
#include <pthread.h>

enum { THREADS = 4, FILES = 50 };

static int ends[2];

static void *open_files(void *unused)
{
    (void)unused;
    for (int i = 0; i < FILES; i++) {
        int fd = check(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null");
        check((int)write(ends[1], &fd, sizeof fd), "write");
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    int closed = 0, fd;
    check(pipe(ends), "pipe");
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, open_files, NULL) != 0)
            return 99;
    for (int i = 0; i < THREADS * FILES; i++)
        if (read(ends[0], &fd, sizeof fd) == sizeof fd)
            closed += close(fd) == 0;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("%d closed\n", closed);
    return 0;
}
