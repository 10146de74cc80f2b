/* The plain case: a few frames, one of them inlined. */

#include <fcntl.h>

#include "leak.h"

FRAME int open_config(const char *path)
{
    int fd = open(path, O_RDONLY); /* mark: open */
    NOT_A_JUMP;
    return fd;
}

INLINED int load(const char *path)
{
    int fd = open_config(path); /* mark: load */
    NOT_A_JUMP;
    return fd;
}

FRAME int reload(const char *path)
{
    int fd = load(path); /* mark: reload */
    NOT_A_JUMP;
    return fd;
}

int main(void)
{
    begin();
    for (int i = 0; i < LEAKS; i++)
        reload("/dev/null"); /* mark: main */
    end();
    return 0;
}
