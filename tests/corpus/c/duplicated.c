/* Forty descriptors of one open file: one handle, but a table of descriptors is full of them as of any others. The word says by
 * which call each is made. */
#include "corpus.h"

FRAME static int by_dup(int fd)
{
    return dup(fd); /* LEAK */
}

FRAME static int by_dup2(int fd, int number)
{
    return dup2(fd, number); /* LEAK */
}

FRAME static int by_dup3(int fd, int number)
{
    return dup3(fd, number, O_CLOEXEC); /* LEAK */
}

FRAME static int by_fcntl(int fd)
{
    return fcntl(fd, F_DUPFD, 50); /* LEAK */
}

FRAME static int by_fcntl_cloexec(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 50); /* LEAK */
}

FRAME static int copy(int fd, int number, int argc, char **argv)
{
    if (has_word(argc, argv, "dup2"))
        return by_dup2(fd, number);
    if (has_word(argc, argv, "dup3"))
        return by_dup3(fd, number);
    if (has_word(argc, argv, "fcntl"))
        return by_fcntl(fd);
    if (has_word(argc, argv, "cloexec"))
        return by_fcntl_cloexec(fd);
    return by_dup(fd);
}

int main(int argc, char **argv)
{
    int fd = check(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null"), copies = 0;
    for (int i = 0; i < 40; i++) {
        int made = check(copy(fd, 100 + i, argc, argv), "a copy");
        copies += made > 2;
        if (is_fixed(argc, argv))
            close(made);
    }
    close(fd);
    printf("%d copies\n", copies);
    return 0;
}
