/* Tables, each a file that is open for as long as the program runs, as a database has them; a table that is dropped is closed.
 * What is opened by the same function and is no such cache: the same file again, files that are only read, and a program
 * that closes none. */
#include "corpus.h"

enum { TABLES = 32, DROPPED = 4 };

static char folder[] = "/tmp/cache-of-data-files-XXXXXX";

static const char *path_of(int table)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/%d", folder, table);
    return path;
}

FRAME static int open_file(const char *path, int flags)
{
    return check(open(path, flags | O_CLOEXEC), path); /* LEAK */
}

FRAME static void drop_tables(void)
{
    for (int table = 0; table < DROPPED; table++)
        check(close(open_file(path_of(table), O_RDWR)), "close");
}

FRAME static void read_tables(int flags, bool again, bool closes)
{
    for (int table = 0; table < TABLES; table++) {
        int fd = open_file(path_of(again ? table / 2 : table), flags);
        if (closes)
            close(fd);
    }
}

int main(int argc, char **argv)
{
    if (mkdtemp(folder) == NULL)
        check(-1, "mkdtemp");
    for (int table = 0; table < TABLES; table++)
        check(close(check(creat(path_of(table), 0600), "creat")), "close");
    if (!has_word(argc, argv, "never"))
        drop_tables();
    read_tables(has_word(argc, argv, "reads") ? O_RDONLY : O_RDWR, has_word(argc, argv, "again"), is_fixed(argc, argv));
    for (int table = 0; table < TABLES; table++)
        check(unlink(path_of(table)), "unlink");
    check(rmdir(folder), "rmdir");
    return 0;
}
