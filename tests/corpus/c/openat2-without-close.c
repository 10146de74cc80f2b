/* Looks whether paths stay below a directory, by opening them. */
#include "corpus.h"
#include <linux/openat2.h>
#include <sys/syscall.h>

FRAME static bool is_below(int directory, const char *path, bool fixed)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
    int fd = (int)syscall(SYS_openat2, directory, path, &how, sizeof how); /* LEAK */
    if (fd < 0)
        return false;
    if (fixed)
        close(fd);
    return true;
}

int main(int argc, char **argv)
{
    int directory = check(open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC), "/dev"), below = 0;
    for (int i = 0; i < 40; i++)
        below += is_below(directory, i % 2 ? "null" : "../proc", is_fixed(argc, argv));
    close(directory);
    printf("%d of 40 are below\n", below);
    return 0;
}
