#include <fcntl.h>

#include "../leak.h"

FRAME static int open_inside(const char *path)
{
    int fd = open(path, O_RDONLY); /* mark: open */
    NOT_A_JUMP;
    return fd;
}

FRAME int inner_open(const char *path)
{
    int fd = open_inside(path); /* mark: inner */
    NOT_A_JUMP;
    return fd;
}
