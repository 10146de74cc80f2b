/* Asks for the same library forty times and never gives it back: it is loaded once. */
#include "corpus.h"
#include <dlfcn.h>

int main(void)
{
    int loaded = 0;
    for (int i = 0; i < 40; i++)
        loaded += dlopen("libc.so.6", RTLD_NOW) != NULL;
    printf("%d\n", loaded);
    return 0;
}
