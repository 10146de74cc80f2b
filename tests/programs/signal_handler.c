/* A handler that a timer starts in the middle of a loop; with ALTERNATE on a stack of its own, and with a pause after the
   first handle: expected.toml says why. */

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/time.h>

#include "leak.h"

#ifdef ALTERNATE
#define FIRST 1
#else
#define FIRST LEAKS
#endif
#define OFTEN {.tv_usec = 2000}

static volatile sig_atomic_t working, leaked, wanted = FIRST;

FRAME int open_log(const char *path)
{
    int fd = open(path, O_RDONLY); /* mark: open */
    NOT_A_JUMP;
    return fd;
}

FRAME static void on_alarm(int signal)
{
    (void)signal;
    if (!working || leaked == wanted)
        return;
    open_log("/dev/null"); /* mark: handler */
    leaked++;
}

FRAME void work(void)
{
    for (working = 1; leaked < wanted;) {} /* mark: work */
    working = 0;
}

static int handle_alarms(void)
{
    struct sigaction action = {.sa_handler = on_alarm};
#ifdef ALTERNATE
    static char memory[1 << 16];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
    action.sa_flags = SA_ONSTACK;
    if (sigaltstack(&stack, NULL) != 0)
        return -1;
#endif
    return sigaction(SIGALRM, &action, NULL);
}

int main(void)
{
    struct itimerval often = {.it_interval = OFTEN, .it_value = OFTEN};
    struct itimerval never = {.it_interval = {.tv_usec = 0}};
    begin();
    if (handle_alarms() != 0)
        return 1;
    for (;;) {
        if (setitimer(ITIMER_REAL, &often, NULL) != 0)
            return 1;
        work(); /* mark: main */
        setitimer(ITIMER_REAL, &never, NULL);
        if (leaked == LEAKS)
            break;
        say("begun\n");
        wait_for_input();
        wanted = LEAKS;
    }
    end();
    return 0;
}
