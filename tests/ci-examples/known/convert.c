/* convert N: opens N documents with an old library that never closes its dictionaries. */
#include <stdio.h>
#include <stdlib.h>

int load_dictionary(void)
{
    FILE *file = fopen("/etc/hostname", "r");
    return file ? fgetc(file) : EOF;
}

int main(int argc, char **argv)
{
    for (int i = 0; i < (argc > 1 ? atoi(argv[1]) : 3); i++)
        load_dictionary();
    return 0;
}
