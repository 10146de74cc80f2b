/* The program opens through two shared libraries. */

#include "../leak.h"

int outer_open(const char *path);

int main(void)
{
    begin();
    for (int i = 0; i < LEAKS; i++)
        outer_open("/dev/null"); /* mark: main */
    end();
    return 0;
}
