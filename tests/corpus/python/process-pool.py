"""A pool of processes for each batch. "fixed": each is closed and joined."""

import multiprocessing
import sys


def square(number):
    return number * number


pools = []


def batch():
    pool = multiprocessing.get_context("fork").Pool(1)
    total = sum(pool.map(square, range(4)))
    if "fixed" in sys.argv:
        pool.close()
        pool.join()
    else:
        pools.append(pool)
    return total


if __name__ == "__main__":
    print(sum(batch() for _ in range(8)))
