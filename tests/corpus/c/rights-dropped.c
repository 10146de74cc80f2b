/* Descriptors that travel through a unix socket with a message; whoever reads the message looks at its bytes only. */
#include "corpus.h"
#include <sys/socket.h>

union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

FRAME static void send_file(int to, const char *path)
{
    int fd = check(open(path, O_RDONLY | O_CLOEXEC), path); /* LEAK */
    union control control = {0};
    struct iovec byte = {.iov_base = "f", .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.header.cmsg_len = CMSG_LEN(sizeof fd);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    check((int)sendmsg(to, &message, 0), "sendmsg");
    close(fd);
}

static int receive(int from, bool fixed)
{
    char byte;
    union control control;
    struct iovec place = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &place, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int got = check((int)recvmsg(from, &message, 0), "recvmsg"); /* LEAK */
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (fixed && header && header->cmsg_type == SCM_RIGHTS) {
        int fd;
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
        close(fd);
    }
    return got;
}

int main(int argc, char **argv)
{
    int ends[2], messages = 0;
    check(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), "socketpair");
    for (int i = 0; i < 30; i++) {
        send_file(ends[0], "/dev/null");
        messages += receive(ends[1], is_fixed(argc, argv));
    }
    close(ends[0]);
    close(ends[1]);
    printf("%d messages\n", messages);
    return 0;
}
