#include "../leak.h"

int inner_open(const char *path);

FRAME int outer_open(const char *path)
{
    int fd = inner_open(path); /* mark: outer */
    NOT_A_JUMP;
    return fd;
}
