// Owners that move through containers; each file is closed once.
#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <unistd.h>
#include <utility>
#include <vector>

class File {
public:
    File() : fd(open("/dev/null", O_RDONLY | O_CLOEXEC)) {}
    File(File &&other) noexcept : fd(std::exchange(other.fd, -1)) {}
    File &operator=(File &&other) noexcept
    {
        std::swap(fd, other.fd);
        return *this;
    }
    ~File()
    {
        if (fd >= 0)
            close(fd);
    }
    bool is_open() const { return fd >= 0; }

private:
    int fd;
};

int main()
{
    std::vector<File> files;
    for (int i = 0; i < 50; i++)
        files.emplace_back();
    std::rotate(files.begin(), files.begin() + 20, files.end());
    std::vector<File> others = std::move(files);
    others.erase(others.begin(), others.begin() + 10);
    long open = std::count_if(others.begin(), others.end(), [](const File &file) { return file.is_open(); });
    std::printf("%ld files\n", open);
}
