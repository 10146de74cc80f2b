/* Closes all that it may have inherited before it begins, as careful programs do. */
#include "corpus.h"

int main(void)
{
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    int log = check(open("/dev/null", O_WRONLY), "/dev/null");
    for (int i = 0; i < 30; i++) {
        int fd = check(open("/dev/zero", O_RDONLY), "/dev/zero");
        check((int)write(log, "x", 1), "write");
        close(fd);
    }
    printf("descriptor %d\n", log);
    return 0;
}
