/* Loads a plugin into a name space of its own for each tenant. What is loaded stays mapped, so its file stays open. */
#include "corpus.h"
#include <dlfcn.h>

FRAME static void *load(const char *path)
{
    void *library = dlmopen(LM_ID_NEWLM, path, RTLD_NOW); /* LEAK */
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(99);
    }
    return library;
}

int main(int argc, char **argv)
{
    for (int i = 0; i < 12; i++) {
        void *library = load("libempty.so");
        if (is_fixed(argc, argv))
            dlclose(library);
    }
    puts("12 tenants");
    return 0;
}
