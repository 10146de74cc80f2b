/* A buffer for each frame of a picture: unmapped, but not closed. */
#include "corpus.h"
#include <sys/mman.h>

FRAME static void draw(bool fixed)
{
    int fd = check(memfd_create("frame", MFD_CLOEXEC), "memfd_create"); /* LEAK */
    check(ftruncate(fd, 4096), "ftruncate");
    char *picture = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (picture == MAP_FAILED)
        check(-1, "mmap");
    picture[0] = 1;
    munmap(picture, 4096);
    if (fixed)
        close(fd);
}

int main(int argc, char **argv)
{
    for (int i = 0; i < 40; i++)
        draw(is_fixed(argc, argv));
    puts("40 frames");
    return 0;
}
