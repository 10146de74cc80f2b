/* Leaks with each request, from its first moment to its last, and is killed. */
#include "corpus.h"
#include <signal.h>

FRAME static void request(bool fixed)
{
    int fd = check(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null"); /* LEAK */
    if (fixed)
        close(fd);
}

int main(int argc, char **argv)
{
    for (int i = 0; i < 50; i++) {
        request(is_fixed(argc, argv));
        sleep_ms(3);
    }
    puts("50 requests");
    fflush(stdout);
    raise(SIGTERM);
    return 0;
}
