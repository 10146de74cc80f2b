/* Opens files, and becomes another program (itself). With "cloexec" the files are closed by that, else they are handed on. */
#include "corpus.h"

FRAME static void prepare(int flags, bool fixed)
{
    int fd = check(open("/dev/null", O_RDONLY | flags), "/dev/null"); /* LEAK */
    if (fixed)
        close(fd);
}

int main(int argc, char **argv)
{
    if (has_word(argc, argv, "next")) {
        puts("next program");
        return 0;
    }
    for (int i = 0; i < 20; i++)
        prepare(has_word(argc, argv, "cloexec") ? O_CLOEXEC : 0, is_fixed(argc, argv));
    execl("/proc/self/exe", argv[0], "next", NULL);
    return 99;
}
