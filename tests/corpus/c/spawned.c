/* Starts programs (itself) by posix_spawn and by vfork, and reads what they say. */
#include "corpus.h"
#include <spawn.h>
#include <sys/wait.h>

static char *arguments[] = {"spawned", "child", NULL};
extern char **environ;

static pid_t spawn(int output)
{
    pid_t child;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (posix_spawn(&child, "/proc/self/exe", &actions, NULL, arguments, environ) != 0)
        child = -1;
    posix_spawn_file_actions_destroy(&actions);
    return check(child, "posix_spawn");
}

static pid_t fork_and_exec(int output)
{
    pid_t child = vfork();
    if (child == 0) {
        dup2(output, STDOUT_FILENO);
        execv("/proc/self/exe", arguments);
        _exit(99);
    }
    return check(child, "vfork");
}

FRAME static int ask(bool spawning)
{
    int ends[2], sum = 0;
    char bytes[16];
    check(pipe2(ends, O_CLOEXEC), "pipe2");
    pid_t child = spawning ? spawn(ends[1]) : fork_and_exec(ends[1]);
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], bytes, sizeof bytes)) > 0;)
        sum += (int)got;
    close(ends[0]);
    waitpid(child, NULL, 0);
    return sum;
}

int main(int argc, char **argv)
{
    if (has_word(argc, argv, "child")) {
        puts("hello");
        return 0;
    }
    int sum = 0;
    for (int i = 0; i < 20; i++)
        sum += ask(i % 2 == 0);
    printf("%d bytes\n", sum);
    return 0;
}
