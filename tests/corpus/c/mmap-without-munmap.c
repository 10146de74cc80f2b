/* Maps a file, closes the descriptor, and forgets the mapping, which keeps the file open. */
#include "corpus.h"
#include <sys/mman.h>

FRAME static int first_byte(const char *path, bool fixed)
{
    int fd = check(open(path, O_RDONLY | O_CLOEXEC), path); /* LEAK */
    char *bytes = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (bytes == MAP_FAILED)
        check(-1, "mmap");
    int first = bytes[0];
    if (fixed)
        munmap(bytes, 4096);
    return first;
}

int main(int argc, char **argv)
{
    int sum = 0;
    for (int i = 0; i < 40; i++)
        sum += first_byte("/proc/self/exe", is_fixed(argc, argv)) == 0x7f;
    printf("%d\n", sum);
    return 0;
}
