/* Threads that open and close in a loop while the process ends: what one of them has in hand then is no leak, what it has
 * forgotten before is one. */
#include "corpus.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum { MOST_THREADS = 20, FORGOTTEN = 6, ROUNDS = 60 };

static atomic_int prepared;
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
    int round = first != NULL ? -ROUNDS : 0;
    /* Nobody has been to this code before: the first thread goes slowly and alone, so that all chains can be whole. */
    while (first == NULL && atomic_load(&prepared) == 0)
        sleep_ms(1);
    for (;;) {
        round++;
        bool forgotten = forgets && round > 0 && round <= ROUNDS && round % (ROUNDS / FORGOTTEN) == 0;
        once(forgotten || (forgets_last && round == ROUNDS));
        if (round <= 0)
            sleep_ms(2);
        if (round == 0)
            atomic_store(&prepared, 1);
        if (round == ROUNDS)
            atomic_fetch_add(&ready, 1);
        while (forgets_last && round == ROUNDS)
            sleep_ms(1000);
    }
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
