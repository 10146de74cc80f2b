// A destructor leaks while an exception passes its frame.

#include <fcntl.h>

#include <stdexcept>

#include "leak.h"

struct Guard {
    const char *path;
    FRAME ~Guard()
    {
        open(path, O_RDONLY); // mark: open
        NOT_A_JUMP;
    }
};

FRAME static void refuse()
{
    throw std::runtime_error("refused");
}

FRAME static void pass(const char *path)
{
    Guard guard{path};
    refuse();
} // mark: pass

FRAME static void attempt(const char *path)
{
    try {
        pass(path); // mark: attempt
    } catch (const std::runtime_error &) {
        NOT_A_JUMP;
    }
}

int main()
{
    begin();
    for (int i = 0; i < LEAKS; i++)
        attempt("/dev/null"); // mark: main
    end();
}
