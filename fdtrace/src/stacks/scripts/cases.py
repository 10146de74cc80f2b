# -*- coding: utf-8 -*-
"""Stands still at many places, and says where: a line of JSON each, then waits for a line; with a folder, it opens a file of its
own there instead, and keeps it. CPython 3.6 and later."""

import asyncio
import contextlib
import functools
import importlib
import json
import os
import re
import sys
import tempfile
import threading

WAITS = 0


def files(folder):
    number = 0
    while True:
        path = os.path.join(folder, "case-%d" % number)
        open(path, "w").close()
        yield path
        number += 1


FILES = files(sys.argv[1]) if sys.argv[1:] else None


def name_of(code):
    return getattr(code, "co_qualname", code.co_name)


def file_of(code):
    return re.sub("[\ud800-\udfff]", "\ufffd", code.co_filename)


def here(case):
    frames, frame = [], sys._getframe(1)
    while frame is not None:
        frames.append([name_of(frame.f_code), file_of(frame.f_code), frame.f_lineno])
        frame = frame.f_back
    own = sys._getframe(0).f_code
    frames.insert(0, [name_of(own), file_of(own), own.co_firstlineno + WAITS])
    says = {"case": case, "thread": threading.get_ident(), "frames": frames}
    os.write(1, (json.dumps(says) + "\n").encode())
    os.open(next(FILES), os.O_RDONLY) if FILES else os.read(0, 1)  # it waits here


WAITS = next(number for number, line in enumerate(open(__file__, encoding="utf-8"), 1) if "it waits here" in line)
WAITS -= here.__code__.co_firstlineno


def function():
    here("function")


class Outer:
    class Inner:
        def method(self):
            here("method")

        @classmethod
        def of_class(cls):
            here("class method")

        @property
        def attribute(self):
            here("property")

        def __enter__(self):
            here("enter")

        def __exit__(self, *_):
            here("exit")

    def __del__(self):
        here("finalizer")


def decorated(called):
    @functools.wraps(called)
    def wrapper(*arguments):
        return called(
            *arguments
        )

    return wrapper


@decorated
def with_decorator(case):
    here(
        case
    )


def generator():
    yield 1
    here("generator")
    yield 2


def delegating():
    yield from generator()


async def innermost():
    await asyncio.sleep(0)
    here("coroutine")


async def outermost():
    await innermost()


async def values():
    yield 1
    here("asynchronous generator")


async def gathered():
    async for _ in values():
        pass


def recurse(depth):
    if depth == 0:
        here("recursion")
    else:
        recurse(depth - 1)


@contextlib.contextmanager
def managed():
    here("context manager")
    yield


def long_function():
    if WAITS < 0:
        pass











































































































































































































































































































    (lambda:
        here("far lines"))()


def run_async(coroutine):
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()


def in_thread():
    thread = threading.Thread(target=here, args=("thread",))
    thread.start()
    thread.join()


def executed():
    for file in ("<made>", "/tmp/caf\xe9.py", "/tmp/\u0436.py", "/tmp/\U0001f40d.py", "/tmp/\udcff.py", "a" * 300):
        source = "\n\n\ndef \u0436():\n\n    here('executed')\n\n\u0436()"
        exec(compile(source, file, "exec"), {"here": here})


def imported():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "cases_module.py"), "w") as module:
            module.write("import __main__\nif True:\n    __main__.here('import')\n")
        sys.path.insert(0, folder)
        importlib.import_module("cases_module")


def through_native_code():
    sorted([1], key=lambda _: here("sorted"))
    list(map(lambda _: here("map"), [1]))
    functools.reduce(lambda one, other: here("reduce"), [1, 2])
    re.sub("a", lambda match: here("callback") or "", "a")
    json.loads("{}", object_hook=lambda _: here("hook"))


def exceptional():
    try:
        raise ValueError
    except ValueError:
        here("handler")
    finally:
        here("finally")


def main():
    function()
    Outer.Inner().method()
    Outer.Inner.of_class()
    Outer.Inner().attribute
    with Outer.Inner():
        pass
    Outer()
    with_decorator("decorator")
    (lambda: here("lambda"))()
    [here("comprehension") for _ in (1,)]
    list(here("expression") for _ in (1,))
    list(delegating())
    run_async(outermost())
    run_async(gathered())
    in_thread()
    recurse(400)
    with managed():
        pass
    long_function()
    executed()
    imported()
    through_native_code()
    exceptional()


here("module")
main()
