/* A file that is replaced by another one, as logs and states are, while the old one stays open. */
#include "corpus.h"

FRAME static int replace(const char *folder, int number)
{
    char name[64], next[64];
    snprintf(name, sizeof name, "%s/state%d", folder, number);
    snprintf(next, sizeof next, "%s/next", folder);
    int fd = check(open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), "open"); /* LEAK */
    int newer = check(open(next, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), "open");
    close(newer);
    check(rename(next, name), "rename");
    unlink(name);
    return fd;
}

int main(int argc, char **argv)
{
    char folder[] = "/tmp/renamed-over-XXXXXX";
    if (mkdtemp(folder) == NULL)
        check(-1, "mkdtemp");
    for (int i = 0; i < 24; i++) {
        int fd = replace(folder, i);
        if (is_fixed(argc, argv))
            close(fd);
    }
    check(rmdir(folder), "rmdir");
    return 0;
}
