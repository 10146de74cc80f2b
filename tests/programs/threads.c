/* Fifty threads, of which only the last one leaks. */

#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>

#include "leak.h"

#define THREADS 50

static pthread_barrier_t all_run, all_done;

FRAME int open_spool(const char *path)
{
    int fd = open(path, O_RDONLY); /* mark: open */
    NOT_A_JUMP;
    return fd;
}

static void *run(void *number)
{
    pthread_barrier_wait(&all_run);
    if (number == (void *)THREADS)
        for (int i = 0; i < LEAKS; i++)
            open_spool("/dev/null"); /* mark: run */
    pthread_barrier_wait(&all_done);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    pthread_barrier_init(&all_run, NULL, THREADS + 1);
    pthread_barrier_init(&all_done, NULL, THREADS + 1);
    for (size_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, run, (void *)(i + 1)) != 0)
            return 1;
    begin();
    pthread_barrier_wait(&all_run);
    pthread_barrier_wait(&all_done);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    end();
    return 0;
}
