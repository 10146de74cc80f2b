/* Maps a dozen files, each once, and keeps the mappings to its end: as `setlocale` and the dynamic linker do. */
#include "corpus.h"
#include <sys/mman.h>

FRAME static void map(const char *path)
{
    int fd = check(open(path, O_RDONLY | O_CLOEXEC), path);
    void *bytes = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (bytes == MAP_FAILED)
        check(-1, "mmap");
}

int main(void)
{
    char directory[] = "/tmp/corpus-XXXXXX", path[64];
    if (!mkdtemp(directory))
        check(-1, "mkdtemp");
    for (int i = 0; i < 12; i++) {
        snprintf(path, sizeof path, "%s/%d", directory, i);
        int fd = check(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), path);
        check((int)write(fd, "x", 1), "write");
        close(fd);
        map(path);
        unlink(path);
    }
    rmdir(directory);
    puts("12 files");
    return 0;
}
