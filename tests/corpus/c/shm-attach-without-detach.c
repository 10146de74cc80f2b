/* Attaches one segment of shared memory for each request. */
#include "corpus.h"
#include <sys/shm.h>

FRAME static void request(int id, bool fixed)
{
    int *counter = shmat(id, NULL, 0); /* LEAK */
    if (counter == (void *)-1)
        check(-1, "shmat");
    ++*counter;
    if (fixed)
        shmdt(counter);
}

int main(int argc, char **argv)
{
    int id = check(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600), "shmget");
    for (int i = 0; i < 30; i++)
        request(id, is_fixed(argc, argv));
    int *counter = shmat(id, NULL, 0);
    shmctl(id, IPC_RMID, NULL);
    printf("%d requests\n", *counter);
    shmdt(counter);
    return 0;
}
