/* A library that needs no other one, so that it can be loaded many times over. */

int answer(void);

int answer(void)
{
    return 42;
}
