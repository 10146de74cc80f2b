/* Reads what children write, and keeps its end of each pipe. */
#include "corpus.h"
#include <sys/wait.h>

FRAME static int ask(bool fixed)
{
    int ends[2];
    check(pipe(ends), "pipe"); /* LEAK */
    pid_t child = check(fork(), "fork");
    if (child == 0) {
        close(ends[0]);
        _exit(write(ends[1], "x", 1) == 1 ? 0 : 1);
    }
    close(ends[1]);
    char byte;
    int got = (int)read(ends[0], &byte, 1);
    waitpid(child, NULL, 0);
    if (fixed)
        close(ends[0]);
    return got;
}

int main(int argc, char **argv)
{
    int bytes = 0;
    for (int i = 0; i < 25; i++)
        bytes += ask(is_fixed(argc, argv));
    printf("%d bytes\n", bytes);
    return 0;
}
