/* A thread that takes a table of descriptors of its own, as sandboxes and file servers do. What it has open when it ends is
 * closed by the kernel, as at the end of a process. */
#include "corpus.h"
#include <pthread.h>
#include <sched.h>

enum { FILES = 12 };

static bool closes;

FRAME static void open_some(int *opened)
{
    for (int i = 0; i < FILES; i++)
        opened[i] = check(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null"); /* LEAK */
}

static void close_some(const int *opened)
{
    for (int i = 0; i < FILES; i++)
        check(close(opened[i]), "close");
}

static void *work(void *copies)
{
    int opened[FILES];
    check(unshare(CLONE_FILES), "unshare");
    if (copies == NULL) {
        open_some(opened);
        if (closes)
            close_some(opened);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int opened[FILES];
    bool copies = has_word(argc, argv, "copies");
    pthread_t thread;
    closes = is_fixed(argc, argv);
    /* The thread's table begins as a copy: its end is not the end of these. */
    if (copies)
        open_some(opened);
    if (pthread_create(&thread, NULL, work, copies ? opened : NULL) != 0)
        return 99;
    pthread_join(thread, NULL);
    if (copies)
        close_some(opened);
    return 0;
}
