/* A parser that returns from the middle when its input is bad. */
#include "corpus.h"

FRAME static int parse(const char *path, bool bad, bool fixed)
{
    int fd = check(open(path, O_RDONLY), path); /* LEAK */
    char byte;
    if (read(fd, &byte, 1) >= 0 && bad) {
        if (fixed)
            close(fd);
        return -1;
    }
    close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    int errors = 0;
    for (int i = 0; i < 60; i++)
        errors += parse("/dev/null", i % 2 == 1, is_fixed(argc, argv)) < 0;
    printf("%d of 60 files are bad\n", errors);
    return has_word(argc, argv, "fail") ? 3 : 0;
}
