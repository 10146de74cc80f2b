/* Answers each line that it gets on port PORT: service PORT [fixed]. Without "fixed" it opens a file for each answer and
   does not close it. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void stop(int signal)
{
    (void)signal;
    _exit(0);
}

static int log_file(void)
{
    return open("/dev/null", O_WRONLY | O_CLOEXEC);
}

static void answer(int client, int fixed)
{
    char line[64];
    ssize_t length = read(client, line, sizeof line);
    int log = log_file();
    if (length > 0 && write(log, line, length) == length && write(client, "done\n", 5) == 5 && fixed)
        close(log);
    close(client);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = { AF_INET, htons(argc > 1 ? atoi(argv[1]) : 8378), { htonl(INADDR_LOOPBACK) } };
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    signal(SIGTERM, stop);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 64))
        return 1;
    for (;;)
        answer(accept(listener, NULL, NULL), argc > 2);
}
