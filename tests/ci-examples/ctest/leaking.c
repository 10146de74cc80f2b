#include <stdio.h>

static int first_byte(const char *path)
{
    FILE *file = fopen(path, "r");
    return file ? fgetc(file) : EOF;
}

int main(void)
{
    for (int i = 0; i < 5; i++)
        if (first_byte("/etc/hostname") == EOF)
            return 1;
    return 0;
}
