/* Many frames of one function; with DEPTH more than anybody wants to see. */

#include <fcntl.h>

#include "leak.h"

#ifndef DEPTH
#define DEPTH 100
#endif

FRAME int descend(const char *path, int depth)
{
    int fd;
    if (depth == 1)
        fd = open(path, O_RDONLY); /* mark: open */
    else
        fd = descend(path, depth - 1); /* mark: descend */
    NOT_A_JUMP;
    return fd;
}

int main(void)
{
    begin();
    for (int i = 0; i < LEAKS; i++)
        descend("/dev/null", DEPTH); /* mark: main */
    end();
    return 0;
}
