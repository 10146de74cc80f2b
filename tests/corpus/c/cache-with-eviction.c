/* A cache of open files with eight places: what is asked for anew pushes out the oldest. */
#include "corpus.h"

enum { PLACES = 8 };

FRAME static int open_file(void)
{
    return check(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null");
}

int main(void)
{
    int cache[PLACES], evicted = 0;
    memset(cache, -1, sizeof cache);
    for (int i = 0; i < 8000; i++) {
        int *place = &cache[i % PLACES];
        if (*place >= 0)
            evicted += close(*place) == 0;
        *place = open_file();
    }
    printf("%d evicted\n", evicted);
    return 0;
}
