/* A compositor: clients send it their buffers over a socket; it maps what comes, shows it, unmaps it, and keeps the descriptor. */
#include "corpus.h"
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { FRAMES = 30, BYTES = 4096 };

union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

FRAME static void draw(int compositor)
{
    int buffer = check(memfd_create("buffer", MFD_CLOEXEC), "memfd_create");
    check(ftruncate(buffer, BYTES), "ftruncate");
    union control control = {0};
    struct iovec byte = {.iov_base = "b", .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.header.cmsg_len = CMSG_LEN(sizeof buffer);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    memcpy(CMSG_DATA(&control.header), &buffer, sizeof buffer);
    check((int)sendmsg(compositor, &message, 0), "sendmsg");
    close(buffer);
}

FRAME static int receive_buffer(int client)
{
    char byte;
    union control control;
    struct iovec place = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &place, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    check((int)recvmsg(client, &message, MSG_CMSG_CLOEXEC), "recvmsg"); /* LEAK */
    int buffer = -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS)
        memcpy(&buffer, CMSG_DATA(header), sizeof buffer);
    return buffer;
}

FRAME static int show(int client, bool fixed)
{
    int buffer = check(receive_buffer(client), "no buffer");
    void *pixels = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, buffer, 0);
    int shown = pixels != MAP_FAILED && *(char *)pixels == 0;
    munmap(pixels, BYTES);
    if (fixed)
        close(buffer);
    return shown;
}

int main(int argc, char **argv)
{
    int ends[2], shown = 0;
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
    pid_t client = check(fork(), "fork");
    if (client == 0) {
        close(ends[0]);
        for (int i = 0; i < FRAMES; i++)
            draw(ends[1]);
        close(ends[1]);
        _exit(0);
    }
    close(ends[1]);
    for (int i = 0; i < FRAMES; i++)
        shown += show(ends[0], is_fixed(argc, argv));
    close(ends[0]);
    waitpid(client, NULL, 0);
    printf("%d frames\n", shown);
    return 0;
}
