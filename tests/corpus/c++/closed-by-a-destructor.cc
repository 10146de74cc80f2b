// Files whose owner is static, so that they live as long as the program. "fixed": the owner lets go of them before.
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <vector>

class File {
public:
    __attribute__((noinline)) explicit File(const char *path) : descriptor(open(path, O_RDONLY)) {} // LEAK
    File(File &&other) noexcept : descriptor(other.descriptor) { other.descriptor = -1; }
    ~File()
    {
        if (descriptor >= 0)
            close(descriptor);
    }

private:
    int descriptor;
};

static std::vector<File> files;

int main(int argc, char **argv)
{
    bool fixed = argc > 1 && std::strcmp(argv[1], "fixed") == 0;
    for (int i = 0; i < 20; i++)
        files.emplace_back("/dev/zero");
    std::printf("%zu files\n", files.size());
    if (fixed)
        files.clear();
}
