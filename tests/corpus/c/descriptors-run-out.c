/* A leak that goes on until there are no more descriptors; from then on every request fails. */
#include "corpus.h"
#include <sys/resource.h>

FRAME static bool request(bool fixed)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* LEAK */
    if (fd < 0)
        return false;
    if (fixed)
        close(fd);
    return true;
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 33;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = 3; fd < 33; fd++)
        close(fd);
    int good = 0;
    for (int i = 0; i < 40; i++)
        good += request(is_fixed(argc, argv));
    printf("%d of 40\n", good);
    return good == 40 ? 0 : 1;
}
