/* Code that is loaded when tracing has long begun, from beside the program. */

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "../leak.h"

typedef int plugin_open_fn(const char *path);

static plugin_open_fn *load_plugin(void)
{
    static char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    char *name = length < 0 ? NULL : strrchr(path, '/');
    if (!name || name + sizeof "/plugin.so" > path + sizeof path)
        return NULL;
    strcpy(name, "/plugin.so");
    void *library = dlopen(path, RTLD_NOW);
    if (!library)
        fprintf(stderr, "%s\n", dlerror());
    return library ? (plugin_open_fn *)dlsym(library, "plugin_open") : NULL;
}

int main(void)
{
    begin();
    plugin_open_fn *plugin_open = load_plugin();
    if (!plugin_open)
        return 1;
    for (int i = 0; i < LEAKS; i++)
        plugin_open("/dev/null"); /* mark: main */
    end();
    return 0;
}
