/* Reads a line of a command's output and forgets the command. */
#include "corpus.h"

FRAME static int ask(bool fixed)
{
    char line[16] = "";
    FILE *stream = popen("echo 7", "r"); /* LEAK */
    if (!stream || !fgets(line, sizeof line, stream))
        return 0;
    if (fixed)
        pclose(stream);
    return atoi(line);
}

int main(int argc, char **argv)
{
    int sum = 0;
    for (int i = 0; i < 20; i++)
        sum += ask(is_fixed(argc, argv));
    printf("%d\n", sum);
    return 0;
}
