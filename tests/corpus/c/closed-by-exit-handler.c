/* Files that are kept until the program ends; what it has registered for then closes them. "one": there is but one. "exits": it
 * ends in the midst of something. "fixed": the same function closes them before. */
#include "corpus.h"

static int kept[20];
static int count;

FRAME static void keep(void)
{
    kept[count] = check(open("/dev/zero", O_RDONLY), "/dev/zero"); /* LEAK */
    count++;
}

FRAME static void close_all(void)
{
    while (count > 0)
        close(kept[--count]);
}

int main(int argc, char **argv)
{
    atexit(close_all);
    int wanted = has_word(argc, argv, "one") ? 1 : 20;
    for (int i = 0; i < wanted; i++)
        keep();
    printf("%d files\n", count);
    if (is_fixed(argc, argv))
        close_all();
    if (has_word(argc, argv, "exits"))
        exit(3);
    return 0;
}
