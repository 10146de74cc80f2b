/* Watches each file with an instance of its own, and when it stops it removes the watch only. */
#include "corpus.h"
#include <sys/inotify.h>

FRAME static int watch(const char *path, bool fixed)
{
    int fd = check(inotify_init1(IN_CLOEXEC), "inotify_init1"); /* LEAK */
    int watch = check(inotify_add_watch(fd, path, IN_MODIFY), "inotify_add_watch");
    int result = inotify_rm_watch(fd, watch);
    if (fixed)
        close(fd);
    return result;
}

int main(int argc, char **argv)
{
    int errors = 0;
    for (int i = 0; i < 20; i++)
        errors += watch("/proc/self/exe", is_fixed(argc, argv)) < 0;
    printf("20 files, %d errors\n", errors);
    return 0;
}
