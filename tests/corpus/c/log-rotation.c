/* Opens the new log before it closes the old one, again and again. One is open at any time, two for a moment. */
#include "corpus.h"

FRAME static int open_log(void)
{
    return check(open("/dev/null", O_WRONLY | O_APPEND | O_CLOEXEC), "/dev/null");
}

int main(void)
{
    int log = open_log();
    for (int i = 0; i < 40; i++) {
        int next = open_log();
        close(log);
        log = next;
        check((int)write(log, "x", 1), "write");
    }
    puts("rotated 40 times");
    return 0;
}
