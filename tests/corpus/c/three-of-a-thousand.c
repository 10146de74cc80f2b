/* A server that closes nearly everything. */
#include "corpus.h"

FRAME static int request(int number, bool fixed)
{
    int fd = check(open("/dev/zero", O_RDONLY | O_CLOEXEC), "/dev/zero"); /* LEAK */
    char byte;
    int got = (int)read(fd, &byte, 1);
    /* A rare case. */
    if (number % 400 == 150 && !fixed)
        return got;
    close(fd);
    return got;
}

int main(int argc, char **argv)
{
    int bytes = 0;
    for (int i = 0; i < 1000; i++)
        bytes += request(i, is_fixed(argc, argv));
    printf("%d requests\n", bytes);
    return 0;
}
