"""Files that are open until the end: archives of classes, each another one, as on a class path; or anything else."""

import os
import sys
import tempfile
import time
import zipfile

kept = []


def make(folder, number):
    path = os.path.join(folder, f"{number}.jar")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt" if "texts" in sys.argv else "META-INF/MANIFEST.MF", "x")
    return path


def keep(path):
    kept.append(os.open(path, os.O_RDONLY))


folder = os.path.join(tempfile.gettempdir(), "archives-of-code")
os.makedirs(folder, exist_ok=True)
paths = [make(folder, number) for number in range(30)]
for path in paths:
    keep(paths[0] if "same" in sys.argv else path)
# Somebody has looked by then what the files are.
time.sleep(1.5)
if "fixed" in sys.argv:
    for descriptor in kept:
        os.close(descriptor)
# Whoever judges looks into the files when the program has ended, so they stay.
os._exit(0)
