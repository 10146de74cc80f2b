/* A child that has its parent's table of descriptors (CLONE_FILES), as helpers of some runtimes have. What it opens is its
 * parent's as well: whoever of the two is there last has to close it. */
#include "corpus.h"
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

enum { FILES = 12 };

static char stack[256 << 10];
static int opened[FILES];
static pid_t parent;
static bool execs;
static bool outlives;
static bool closes;

FRAME static void open_some(void)
{
    for (int i = 0; i < FILES; i++)
        opened[i] = check(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null"); /* LEAK */
}

FRAME static void close_some(void)
{
    for (int i = 0; i < FILES; i++)
        check(close(opened[i]), "close");
}

static int child(void *unused)
{
    (void)unused;
    if (outlives) {
        /* Its parent has ended when somebody else is. */
        while (getppid() == parent)
            sleep_ms(1);
        if (closes)
            close_some();
        return 0;
    }
    open_some();
    if (execs)
        execl("/bin/true", "true", (char *)NULL);
    return 0;
}

int main(int argc, char **argv)
{
    execs = has_word(argc, argv, "exec");
    parent = getpid();
    outlives = has_word(argc, argv, "outlives");
    closes = is_fixed(argc, argv);
    if (outlives)
        open_some();
    int flags = CLONE_FILES | CLONE_VM | SIGCHLD | (execs ? CLONE_VFORK : 0);
    /* Without the memory, the child of a parent that ends first would lose its stack. */
    if (outlives)
        flags &= ~CLONE_VM;
    pid_t pid = check(clone(child, stack + sizeof stack, flags, NULL), "clone");
    if (outlives)
        return 0;
    check(waitpid(pid, NULL, 0), "waitpid");
    if (closes)
        close_some();
    return 0;
}
