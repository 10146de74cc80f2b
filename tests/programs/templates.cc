// Templates, a member function, a virtual call, and an exception on the way: the leak is in its handler.

#include <fcntl.h>

#include <stdexcept>
#include <string>

#include "leak.h"

namespace store {

struct Missing : std::runtime_error {
    using std::runtime_error::runtime_error;
};

template <typename Policy>
struct Opener {
    FRAME int open_default() const
    {
        int fd = open(Policy::path, O_RDONLY); // mark: open
        NOT_A_JUMP;
        return fd;
    }
};

struct Null {
    static constexpr const char *path = "/dev/null";
};

template <typename Key>
FRAME void look_up(const Key &key)
{
    if (key != Key())
        throw Missing("no such key");
}

struct Source {
    virtual int fetch(const std::string &key) const = 0;
    virtual ~Source() = default;
};

struct Fallback : Source {
    FRAME int fetch(const std::string &key) const override
    {
        try {
            look_up(key);
        } catch (const Missing &) {
            int fd = Opener<Null>().open_default(); // mark: catch
            NOT_A_JUMP;
            return fd;
        }
        return -1;
    }
};

} // namespace store

template <int Times>
FRAME void repeat(const store::Source &source, const std::string &key)
{
    for (int i = 0; i < Times; i++)
        source.fetch(key); // mark: repeat
}

int main()
{
    store::Fallback source;
    std::string key = "key";
    begin();
    repeat<LEAKS>(source, key); // mark: main
    end();
}
