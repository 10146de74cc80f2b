/* Forty descriptors of one open file: one handle, and nothing leaks however many there are. */
#include "corpus.h"

int main(void)
{
    int fd = check(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null"), copies = 0;
    for (int i = 0; i < 40; i++)
        copies += check(dup(fd), "dup") > 0;
    printf("%d copies\n", copies);
    return 0;
}
