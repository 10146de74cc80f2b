"""`pytest --leaks` runs each test in a process of its own, under `fdtrace check`."""

import subprocess
import sys
import time

from _pytest.reports import TestReport


def pytest_addoption(parser):
    parser.addoption("--leaks", action="store_true", help="fail tests that leak open files")


def pytest_runtest_protocol(item):
    if not item.config.getoption("--leaks"):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    item.ihook.pytest_runtest_logreport(report=under_check(item))
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def under_check(item):
    command = ["fdtrace", "check", "--", sys.executable, "-m", "pytest", "-q", "--no-header", item.nodeid]
    start = time.time()
    ended = subprocess.run(command, cwd=item.config.rootpath, capture_output=True, text=True)
    outcome, said = "passed", None
    if ended.returncode != 0:
        # What leaks is said on standard error, what else is wrong by the other pytest.
        outcome, said = "failed", ended.stderr + ("" if ended.returncode == 23 else ended.stdout)
    return TestReport(
        item.nodeid, item.location, {}, outcome, said, "call", duration=time.time() - start, start=start, stop=time.time()
    )
