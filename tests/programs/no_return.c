/* A call that never returns is the last instruction of its function: its return address lies behind the function. */

#include <fcntl.h>
#include <stdlib.h>

#include "leak.h"

FRAME __attribute__((noreturn)) void give_up(const char *path)
{
    for (int i = 0; i < LEAKS; i++)
        open(path, O_RDONLY); /* mark: open */
    end();
    exit(0);
}

FRAME __attribute__((noreturn)) void fail(const char *path)
{
    begin();
    give_up(path); /* mark: fail */
}

int main(void)
{
    fail("/dev/null"); /* mark: main */
}
