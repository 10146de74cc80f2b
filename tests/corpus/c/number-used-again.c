/* A log that is opened anew and put in the place of the old one by dup2: each copy is closed by the next one. */
#include "corpus.h"

int main(void)
{
    int place = check(open("/dev/null", O_WRONLY | O_CLOEXEC), "/dev/null"), lines = 0;
    for (int i = 0; i < 50; i++) {
        int fd = check(open("/dev/null", O_WRONLY | O_CLOEXEC), "/dev/null");
        check(dup2(fd, place), "dup2");
        close(fd);
        lines += write(place, "line\n", 5) == 5;
    }
    /* Standard streams are saved, and put back. */
    for (int i = 0; i < 20; i++) {
        int saved = check(dup(STDOUT_FILENO), "dup");
        check(dup2(place, STDOUT_FILENO), "dup2");
        check(dup2(saved, STDOUT_FILENO), "dup2");
        close(saved);
    }
    close(place);
    printf("%d lines\n", lines);
    return 0;
}
