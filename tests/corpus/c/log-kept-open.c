/* One log file, open from the first line to the last. Nobody closes it, and nobody needs to. */
#include "corpus.h"

static FILE *log_file;

FRAME static void say(const char *line)
{
    if (!log_file)
        log_file = fopen("/dev/null", "ae");
    if (log_file)
        fprintf(log_file, "%s\n", line);
}

int main(void)
{
    for (int i = 0; i < 50; i++)
        say("line");
    puts("50 lines");
    return 0;
}
