/* Threads that open and close in a loop while the process ends: what one of them has in hand then is no leak, what it has
 * forgotten before is one. */
#include "corpus.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum { MOST_THREADS = 20, FORGOTTEN = 3, ROUNDS = 60 };

static atomic_int ready;
static bool forgets;
static bool forgets_last;
static bool sleeps;

FRAME static void once(bool keep)
{
    int fd = check(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null"); /* LEAK */
    if (sleeps)
        sleep_ms(1);
    /* With the processor, but not so fast that nobody can follow. */
    for (volatile int work = 0; work < 50000 && !forgets_last; work++)
        ;
    if (!keep)
        check(close(fd), "close");
}

static void *work(void *first)
{
    int rounds = ROUNDS;
    /* Nobody has been to this code before: the first thread goes slowly, so that all chains can be whole. */
    for (int i = 1; first != NULL && i <= rounds; i++) {
        once(false);
        sleep_ms(2);
    }
    for (int i = 1; i <= rounds; i++)
        once((forgets && i % (rounds / FORGOTTEN) == 0) || (forgets_last && i == rounds));
    atomic_fetch_add(&ready, 1);
    while (forgets_last)
        sleep_ms(1000);
    for (;;)
        once(false);
    return NULL;
}

static void *end(void *unused)
{
    (void)unused;
    _exit(0);
}

int main(int argc, char **argv)
{
    int threads = has_word(argc, argv, "one") ? 1 : MOST_THREADS;
    pthread_t thread;
    forgets = has_word(argc, argv, "forgets");
    forgets_last = has_word(argc, argv, "last");
    sleeps = has_word(argc, argv, "sleeps");
    for (int i = 0; i < threads; i++) {
        if (pthread_create(&thread, NULL, work, i == 0 ? &thread : NULL) != 0)
            return 99;
        while (i == 0 && atomic_load(&ready) == 0)
            sleep_ms(1);
    }
    while (atomic_load(&ready) < threads)
        sleep_ms(1);
    sleep_ms(forgets_last ? 300 : 20);
    if (has_word(argc, argv, "killed"))
        raise(SIGKILL);
    if (has_word(argc, argv, "thread") && pthread_create(&thread, NULL, end, NULL) == 0)
        for (;;)
            sleep_ms(1000);
    _exit(0);
}
