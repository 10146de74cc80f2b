# Run inside of gdb: writes down the call chain of each system call that makes a handle, one JSON object a line.
#
# A chain is written as files and offsets in them, as fdtrace knows it, so that programs without symbols can be compared.

import json
import os
import time

import gdb

# The calls that make handles of their own, other than by mapping memory.
CALLS = """open openat openat2 creat socket socketpair accept accept4 pipe pipe2 epoll_create epoll_create1 eventfd eventfd2
timerfd_create signalfd signalfd4 inotify_init inotify_init1""".split()
# By its number on x86-64 too, which is all that a stop says.
LAST, LAST_NUMBER = "exit_group", 231

# Those that make two handles, by their numbers: pipe, socketpair, pipe2.
PAIRS = {22, 53, 293}

# What is inlined has no frame of its own. Nor has a function that jumped to its last callee and was left so: where debug
# information says that there was no other way, gdb puts it into the chain.
NOT_ON_STACK = {gdb.INLINE_FRAME, gdb.TAILCALL_FRAME}

# What the kernel puts where the result will be, while a call has not been made.
ENOSYS = 38

SETTINGS = """set pagination off
set debuginfod enabled off
set backtrace past-main on
set backtrace past-entry on
set startup-with-shell off
handle all nostop noprint pass""".splitlines()


def write(value):
    with open(os.environ["CHAINS"], "a") as file:
        file.write(json.dumps(value) + "\n")


def wait_for_line():
    # Byte by byte: what comes after the line is for the program.
    while os.read(0, 1) not in (b"\n", b""):
        pass


def code(pid):
    with open(f"/proc/{pid}/maps") as file:
        for line in file:
            words = line.split(maxsplit=5)
            start, end = (int(word, 16) for word in words[0].split("-"))
            if "x" in words[1]:
                yield start, end, int(words[2], 16), words[5].strip() if len(words) > 5 else ""


def place(address, mapped):
    for start, end, offset, path in mapped:
        if start <= address < end:
            return {"module": os.path.basename(path), "offset": address - start + offset}
    return None


def chain(pid):
    mapped, frames = list(code(pid)), []
    frame, exact = gdb.newest_frame(), True
    # Where nothing says that a function is the first one, gdb goes on with whatever is on the stack.
    while frame is not None and place(frame.pc(), mapped):
        if frame.type() not in NOT_ON_STACK:
            trampoline = frame.type() == gdb.SIGTRAMP_FRAME
            # A return address is behind the call; the innermost one, and one that a signal interrupted, are none.
            call = frame.pc() if exact or trampoline else frame.pc() - 1
            frames.append({**place(call, mapped), "name": frame.name()})
            exact = trampoline
        frame = frame.older()
    return frames


def is_entry():
    return int(gdb.parse_and_eval("$rax")) == -ENOSYS


def number():
    return int(gdb.parse_and_eval("$orig_rax"))


def goes_on():
    try:
        gdb.execute("continue", to_string=True)
    except gdb.error:
        # A thread that ends while others are stopped: the whole process does.
        return False
    return gdb.selected_inferior().pid != 0


def watch(pid):
    while goes_on():
        if number() == LAST_NUMBER:
            # Whoever looks at the process from the outside is given the time.
            time.sleep(1)
        elif is_entry():
            write({"handles": 2 if number() in PAIRS else 1, "frames": chain(pid)})


for setting in SETTINGS:
    gdb.execute(setting, to_string=True)
gdb.execute("starti", to_string=True)
process = gdb.selected_inferior().pid
write({"pid": process})
wait_for_line()
gdb.execute(f"catch syscall {' '.join(CALLS)} {LAST}", to_string=True)
watch(process)
