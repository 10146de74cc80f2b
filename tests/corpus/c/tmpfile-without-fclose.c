/* Temporary files that have no name any more, and are still open. */
#include "corpus.h"

FRAME static long sort_on_disk(bool fixed)
{
    FILE *file = tmpfile(); /* LEAK */
    if (!file)
        check(-1, "tmpfile");
    fputs("b\na\n", file);
    long size = ftell(file);
    if (fixed)
        fclose(file);
    return size;
}

int main(int argc, char **argv)
{
    long bytes = 0;
    for (int i = 0; i < 20; i++)
        bytes += sort_on_disk(is_fixed(argc, argv));
    printf("%ld bytes\n", bytes);
    return 0;
}
