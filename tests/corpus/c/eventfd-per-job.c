/* Jobs that are signalled by an eventfd; a job that is cancelled keeps it. */
#include "corpus.h"
#include <sys/eventfd.h>

struct job {
    int done;
};

FRAME static struct job *start(void)
{
    struct job *job = malloc(sizeof *job);
    if (!job)
        exit(99);
    job->done = check(eventfd(0, EFD_CLOEXEC), "eventfd"); /* LEAK */
    return job;
}

static void finish(struct job *job)
{
    close(job->done);
    free(job);
}

static void cancel(struct job *job, bool fixed)
{
    if (fixed)
        close(job->done);
    free(job);
}

int main(int argc, char **argv)
{
    for (int i = 0; i < 45; i++) {
        struct job *job = start();
        if (i % 3 == 0)
            finish(job);
        else
            cancel(job, is_fixed(argc, argv));
    }
    puts("15 jobs done, 30 cancelled");
    return 0;
}
