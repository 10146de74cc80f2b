/* The same file comes with message after message, several messages by one call (recvmmsg), two descriptors in each: one handle,
 * and the receiver forgets that each descriptor is a new one. */
#include "corpus.h"
#include <sys/socket.h>

enum { CALLS = 15, MESSAGES = 2, RIGHTS = 2 };

union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(RIGHTS * sizeof(int))];
};

static void send_twice(int to, int fd)
{
    int both[RIGHTS] = {fd, fd};
    union control control = {0};
    struct iovec byte = {.iov_base = "f", .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.header.cmsg_len = CMSG_LEN(sizeof both);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    memcpy(CMSG_DATA(&control.header), both, sizeof both);
    check((int)sendmsg(to, &message, 0), "sendmsg");
}

FRAME static int receive(int from, bool fixed)
{
    char bytes[MESSAGES];
    union control control[MESSAGES];
    struct iovec places[MESSAGES];
    struct mmsghdr messages[MESSAGES] = {0};
    for (int i = 0; i < MESSAGES; i++) {
        places[i] = (struct iovec){.iov_base = &bytes[i], .iov_len = 1};
        messages[i].msg_hdr = (struct msghdr){
            .msg_iov = &places[i], .msg_iovlen = 1, .msg_control = &control[i], .msg_controllen = sizeof control[i]};
    }
    int got = check(recvmmsg(from, messages, MESSAGES, 0, NULL), "recvmmsg"); /* LEAK */
    for (int i = 0; i < got && fixed; i++) {
        int both[RIGHTS];
        memcpy(both, CMSG_DATA(CMSG_FIRSTHDR(&messages[i].msg_hdr)), sizeof both);
        close(both[0]);
        close(both[1]);
    }
    return got;
}

int main(int argc, char **argv)
{
    int ends[2], fd = check(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null"), messages = 0;
    check(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), "socketpair");
    for (int i = 0; i < CALLS; i++) {
        send_twice(ends[0], fd);
        send_twice(ends[0], fd);
        messages += receive(ends[1], is_fixed(argc, argv));
    }
    close(ends[0]);
    close(ends[1]);
    close(fd);
    printf("%d messages\n", messages);
    return 0;
}
