/* The way to the leak leads through the C library, which calls back. */

#include <fcntl.h>
#include <stdlib.h>

#include "leak.h"

static int compare(const void *left, const void *right)
{
    int fd = open("/dev/null", O_RDONLY); /* mark: compare */
    NOT_A_JUMP;
    return fd < 0 ? 0 : *(const int *)left - *(const int *)right;
}

FRAME void sort_pair(int *pair)
{
    qsort(pair, 2, sizeof *pair, compare); /* mark: sort */
    NOT_A_JUMP;
}

int main(void)
{
    int pair[2] = {2, 1};
    begin();
    for (int i = 0; i < LEAKS; i++)
        sort_pair(pair); /* mark: main */
    end();
    return 0;
}
