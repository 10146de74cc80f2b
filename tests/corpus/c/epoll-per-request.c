/* Makes an epoll instance for each request. */
#include "corpus.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

FRAME static int request(int event, bool fixed)
{
    int epoll = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1"); /* LEAK */
    struct epoll_event wanted = {.events = EPOLLOUT}, got;
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted), "epoll_ctl");
    int ready = epoll_wait(epoll, &got, 1, 1000);
    if (fixed)
        close(epoll);
    return ready;
}

int main(int argc, char **argv)
{
    int event = check(eventfd(0, EFD_CLOEXEC), "eventfd"), ready = 0;
    for (int i = 0; i < 40; i++)
        ready += request(event, is_fixed(argc, argv));
    close(event);
    printf("%d ready\n", ready);
    return 0;
}
