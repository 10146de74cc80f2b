// Streams made by `new`, and nobody deletes them. "fixed": they are owned.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>

__attribute__((noinline)) static std::ifstream *open_input()
{
    auto *stream = new std::ifstream;
    stream->open("/dev/zero"); // LEAK
    return stream;
}

int main(int argc, char **argv)
{
    bool fixed = argc > 1 && std::strcmp(argv[1], "fixed") == 0;
    int zeros = 0;
    for (int i = 0; i < 25; i++) {
        std::ifstream *stream = open_input();
        zeros += stream->get() == 0;
        if (fixed)
            std::unique_ptr<std::ifstream> owner(stream);
    }
    std::printf("%d zeros\n", zeros);
}
