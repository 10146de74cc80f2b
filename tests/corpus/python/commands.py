"""Runs commands and reads what they say. With "kept" the command's object stays in a list, with its pipe."""

import os
import subprocess
import sys

commands = []


def ask():
    command = subprocess.Popen(["true"], stdout=subprocess.PIPE)
    if "kept" in sys.argv:
        command.wait()
        commands.append(command)
        return 0
    return len(command.communicate()[0])


for _ in range(12):
    ask()
print("12 commands", flush=True)
os._exit(0)
