/* Leaks at its start, and then does a long day's work with nothing wrong in it. */
#include "corpus.h"

FRAME static void load(const char *path, bool valid)
{
    int fd = check(open(path, O_RDONLY | O_CLOEXEC), path); /* LEAK */
    if (valid)
        close(fd);
}

int main(int argc, char **argv)
{
    for (int i = 0; i < 40; i++)
        load("/dev/null", i % 2 == 0 || is_fixed(argc, argv));
    sleep_ms(100);
    puts("done");
    return 0;
}
