/* A timeout that is set anew makes a new timer and forgets the old one. */
#include "corpus.h"
#include <sys/timerfd.h>

static int timer = -1;

FRAME static void set_timeout(long ns, bool fixed)
{
    if (fixed && timer >= 0)
        close(timer);
    timer = check(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create"); /* LEAK */
    struct itimerspec when = {.it_value = {.tv_nsec = ns}};
    check(timerfd_settime(timer, 0, &when, NULL), "timerfd_settime");
}

int main(int argc, char **argv)
{
    for (int i = 0; i < 30; i++)
        set_timeout(1000 + i, is_fixed(argc, argv));
    puts("armed 30 times");
    return 0;
}
