/* What the programs have in common. Each does its work once as it was written by mistake, and, called with "fixed", as it
 * should have been. */

#ifndef CORPUS_H
#define CORPUS_H

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A call of its own, whatever the optimizer thinks of it. */
#define FRAME __attribute__((noinline, noclone))

static inline bool has_word(int argc, char **argv, const char *word)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], word) == 0)
            return true;
    return false;
}

static inline bool is_fixed(int argc, char **argv)
{
    return has_word(argc, argv, "fixed");
}

static inline int check(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        _exit(99);
    }
    return result;
}

static inline void sleep_ms(long ms)
{
    usleep((useconds_t)ms * 1000);
}

#endif
