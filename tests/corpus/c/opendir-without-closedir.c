/* A search that returns as soon as it has found something. */
#include "corpus.h"
#include <dirent.h>

FRAME static bool has_entry(const char *path, const char *name, bool fixed)
{
    DIR *directory = opendir(path); /* LEAK */
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (strcmp(entry->d_name, name) == 0) {
            if (fixed)
                closedir(directory);
            return true;
        }
    if (directory)
        closedir(directory);
    return false;
}

int main(int argc, char **argv)
{
    int found = 0;
    for (int i = 0; i < 30; i++)
        found += has_entry("/proc/self", "status", is_fixed(argc, argv));
    printf("found %d times\n", found);
    return 0;
}
