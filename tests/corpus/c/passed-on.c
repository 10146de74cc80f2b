/* Opens files for a child that may not open them itself, passes them on, and closes its copies. "drop": the child does not
 * close what it gets. */
#include "corpus.h"
#include <sys/socket.h>
#include <sys/wait.h>

union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

static int transfer(int socket, int *fd, bool sending)
{
    char byte = 'f';
    union control control = {0};
    struct iovec place = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &place, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.header.cmsg_len = CMSG_LEN(sizeof *fd);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    if (sending) {
        memcpy(CMSG_DATA(&control.header), fd, sizeof *fd);
        return check((int)sendmsg(socket, &message, 0), "sendmsg");
    }
    int got = check((int)recvmsg(socket, &message, 0), "recvmsg"); /* LEAK */
    if (got > 0)
        memcpy(fd, CMSG_DATA(&control.header), sizeof *fd);
    return got;
}

FRAME static void give(int socket)
{
    int fd = check(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null");
    transfer(socket, &fd, true);
    close(fd);
}

int main(int argc, char **argv)
{
    int ends[2], status;
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "socketpair");
    pid_t child = check(fork(), "fork");
    if (child == 0) {
        close(ends[0]);
        int fd, files = 0;
        for (; transfer(ends[1], &fd, false) > 0; files++)
            if (!has_word(argc, argv, "drop"))
                close(fd);
        _exit(files);
    }
    close(ends[1]);
    for (int i = 0; i < 30; i++)
        give(ends[0]);
    close(ends[0]);
    waitpid(child, &status, 0);
    printf("%d files\n", WEXITSTATUS(status));
    return 0;
}
