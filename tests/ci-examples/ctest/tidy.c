#include <stdio.h>

int main(void)
{
    for (int i = 0; i < 5; i++) {
        FILE *file = fopen("/etc/hostname", "r");
        if (!file)
            return 1;
        fclose(file);
    }
    return 0;
}
