/* Looks for a file in a thousand places where it is not. */
#include "corpus.h"

int main(void)
{
    char path[64];
    int missing = 0;
    for (int i = 0; i < 1000; i++) {
        snprintf(path, sizeof path, "/dev/there/is/no/%d", i);
        missing += open(path, O_RDONLY) < 0;
    }
    printf("%d missing\n", missing);
    return 0;
}
