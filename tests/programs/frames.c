/* Frames whose size is known at run time only, or which are aligned: no fixed distance leads to the caller. */

#include <fcntl.h>
#include <stdalign.h>
#include <string.h>

#include "leak.h"

FRAME int open_aligned(const char *path)
{
    alignas(64) char buffer[128];
    strcpy(buffer, path);
    __asm__ volatile("" : : "r"(buffer) : "memory");
    int fd = open(buffer, O_RDONLY); /* mark: open */
    NOT_A_JUMP;
    return fd;
}

FRAME int open_sized(const char *path, unsigned length)
{
    char copy[length + 1];
    memcpy(copy, path, length + 1);
    __asm__ volatile("" : : "r"(copy) : "memory");
    int fd = open_aligned(copy); /* mark: sized */
    NOT_A_JUMP;
    return fd;
}

/* More values than registers: all of those that a caller expects back are saved here. */
FRAME int open_crowded(const char *path, const volatile int *in)
{
    int a = in[0], b = in[1], c = in[2], d = in[3], e = in[4], f = in[5], g = in[6];
    int fd = open_sized(path, 9); /* mark: crowded */
    return fd + a * b + c * d + e * f + g;
}

int main(void)
{
    int zeros[7] = {0};
    begin();
    for (int i = 0; i < LEAKS; i++)
        open_crowded("/dev/null", zeros); /* mark: main */
    end();
    return 0;
}
