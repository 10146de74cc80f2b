"""Names the tests that leave files open, when pytest runs under `fdtrace check`.

Each test is a scope: fdtrace is told when it begins and ends, and says what was opened meanwhile and is open still. When all
tests have run and all fixtures are torn down, it is asked again. What is open then fails the test that opened it, unless
a name of a module or class refers to it: what is initialised once, when it is first needed, is no leak.
"""

import fnmatch
import gc
import json
import os
import socket
import sys
import types
import warnings

import pytest
from _pytest.reports import TestReport

SCOPE = "FDTRACE_SCOPE"
# Bytes of a line, less the longest verb.
LONGEST = 4000
# Nobody waits for ever for an answer.
PATIENCE = 120
# Devices that a library keeps when it has opened them once.
DEVICES = {"/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"}
# Frames of a call chain that are shown; all are in what fdtrace writes.
FRAMES = 6
# Attributes from a module to what it holds: an event loop's sockets are five away.
DEPTH = 6
# Objects that are looked at for that.
MOST_OBJECTS = 200000


def pytest_addoption(parser):
    group = parser.getgroup("fdtrace", "open files, under `fdtrace check`")
    group.addoption("--fdtrace-allow", type=int, default=0, metavar="N", help="calls that a test may keep")
    group.addoption("--fdtrace-no-gc", action="store_true", help="do not collect garbage before a test ends")
    parser.addini("fdtrace_ignore", "names of files that tests may keep (patterns)", type="linelist", default=[])


def pytest_configure(config):
    config.addinivalue_line("markers", "fdtrace(allow=N): the test may leave N more calls open")
    path = os.environ.get(SCOPE)
    if not path:
        return
    try:
        channel = Channel(path)
    except OSError as error:
        warning = pytest.PytestWarning(f"fdtrace does not watch the tests: {path}: {error}")
        config.issue_config_time_warning(warning, stacklevel=2)
        return
    config.pluginmanager.register(Scopes(config, channel), "fdtrace-scopes")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report):
    """A test that leaks has passed before anybody knew: it counts once."""
    if getattr(report, "fdtrace", False) and TERMINAL:
        stats = TERMINAL[0].stats
        stats["passed"] = [other for other in stats.get("passed", []) if other.nodeid != report.nodeid]


TERMINAL = []


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    TERMINAL[:] = filter(None, [session.config.pluginmanager.get_plugin("terminalreporter")])


class Channel:
    """The socket: a line is sent, and a line of JSON is the answer."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.settimeout(PATIENCE)
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        self.file = self.socket.makefile("rwb")
        # What a test forks is a part of it, and speaks for nobody.
        os.register_at_fork(after_in_child=self.close)

    def ask(self, verb, name=None):
        """The answer; none when there is nobody to ask, or no answer to this."""
        if self.file is None:
            return None
        try:
            self.file.write((verb if name is None else f"{verb} {name}").encode() + b"\n")
            self.file.flush()
            answer = json.loads(self.file.readline())
        except (OSError, ValueError) as error:
            self.close()
            warnings.warn(pytest.PytestWarning(f"fdtrace does not watch the tests any more: {error!r}"))
            return None
        return answer if answer.get("ok") else None

    def close(self):
        if self.file is not None:
            file, self.file = self.file, None
            try:
                file.close()
            except (OSError, ValueError):
                pass
            self.socket.close()


class Scopes:
    """Tells fdtrace of each test, and judges what it keeps."""

    def __init__(self, config, channel):
        self.config = config
        self.channel = channel
        self.kept = {}
        self.failed = set()
        self.once = []

    @pytest.hookimpl
    def pytest_report_header(self):
        return "fdtrace: watches what tests leave open"

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        name = scope_of(item)
        begun = self.channel.ask("begin", name) is not None
        yield
        if not begun:
            return
        if not self.config.getoption("--fdtrace-no-gc"):
            gc.collect()
        answer = self.channel.ask("end", name)
        if answer and answer["kept"]:
            self.kept[name] = item

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.add(report.nodeid)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtestloop(self, session):
        outcome = yield
        # Where it was stopped, fixtures have what they will close.
        if self.kept and outcome.excinfo is None and not (session.shouldstop or session.shouldfail):
            self.judge(session)
        self.channel.ask("done")
        self.channel.close()

    def judge(self, session):
        gc.collect()
        owners = Owners({getattr(item, "module", None) for item in session.items})
        for name, item in self.kept.items():
            answer = self.channel.ask("kept", name)
            if not answer or item.nodeid in self.failed:
                continue
            leaked = [site for site in answer["kept"] if self.leaks(item, site, owners)]
            if sum(site["calls"] for site in leaked) > self.allowed(item):
                self.channel.ask("fail", name)
                self.report(session, item, text(leaked))
            else:
                self.channel.ask("pass", name)

    def leaks(self, item, site, owners):
        """Whether what was kept of a call site is no one's; what is kept once is noted."""
        examples = site["examples"]
        patterns = self.config.getini("fdtrace_ignore")
        if site["suppressed_by"]:
            return False
        if examples and all(any(fnmatch.fnmatchcase(one["name"], each) for each in patterns) for one in examples):
            return False
        if site["calls"] == 1 and examples and all(one["name"] in DEVICES for one in examples):
            return False
        # Of a pipe, the other end may be another process's.
        own = [(one, owners.of(one)) for one in examples if one["pid"] == os.getpid()]
        if site["handles"] == len(examples) and own and all(owner for _, owner in own):
            self.once.append((item.nodeid, own))
            return False
        return True

    def allowed(self, item):
        marks = (mark.kwargs.get("allow", mark.args[0] if mark.args else 0) for mark in item.iter_markers("fdtrace"))
        return self.config.getoption("--fdtrace-allow") + sum(marks)

    def report(self, session, item, said):
        report = TestReport(item.nodeid, item.location, {}, "failed", said, "call", fdtrace=True)
        # A worker of pytest-xdist says by a number which test it speaks of.
        for plugin in self.config.pluginmanager.get_plugins():
            if hasattr(plugin, "sendevent") and hasattr(plugin, "item_index"):
                plugin.item_index = session.items.index(item)
        item.ihook.pytest_runtest_logreport(report=report)

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter):
        if self.once:
            terminalreporter.section("fdtrace: initialised once, and kept")
        for nodeid, held in self.once:
            for example, owner in held:
                terminalreporter.write_line(f"{nodeid}: {owner} is {shown(example)}")


def scope_of(item):
    """One line, and no longer than a line may be."""
    name = item.nodeid.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n").replace("\r", "\\r")
    while len(name.encode()) > LONGEST:
        name = name[: len(name) * 9 // 10]
    return name


def text(sites):
    calls = sum(site["calls"] for site in sites)
    examples = [shown(example) for site in sites for example in site["examples"]]
    lines = [
        f"fdtrace: left open: {', '.join(examples[:3])}{', ...' if len(examples) > 3 else ''}",
        f"  {counted(calls, 'call')} of this test made what is open when all tests have run and all fixtures are torn down",
    ]
    for site in sites:
        lines.append(f"  {counted(site['calls'], 'call')} ({site['origin']}) in {site['place']}:")
        lines += [f"    {shown(example)}" for example in site["examples"]]
        lines += [f"      {frame}" for frame in site["stack"][:FRAMES]]
    lines.append(f"  to accept it: @pytest.mark.fdtrace(allow={calls}), or fdtrace_ignore in the ini file")
    return "\n".join(lines)


def counted(count, thing):
    return f"{count} {thing}{'' if count == 1 else 's'}"


def shown(example):
    name = example["name"] or example["kind"]
    return name if example["fd"] is None else f"fd {example['fd']} {name}"


class Owners:
    """What names of modules and classes refer to, by descriptor: such a name holds one thing, however often it is set.

    Only attributes lead from a name to what it holds. A list, a dictionary or a set can grow, so what is in one has no
    owner; and what a test's own module holds is what the test has kept.
    """

    def __init__(self, tests):
        self.names = {}
        self.seen = set()
        modules = [module for module in list(sys.modules.values()) if isinstance(module, types.ModuleType)]
        for module in modules:
            if module not in tests:
                self.look(vars(module), module.__name__)

    def of(self, example):
        return self.names.get(example["fd"]) if example["pid"] == os.getpid() else None

    def look(self, attributes, name):
        todo = [(attributes, name, 0)]
        while todo and len(self.seen) < MOST_OBJECTS:
            attributes, name, depth = todo.pop()
            for key, value in list(attributes.items()):
                if not isinstance(key, str):
                    continue
                self.note(key, value, f"{name}.{key}")
                inner = self.inside(value)
                if inner and depth < DEPTH:
                    todo.append((inner, f"{name}.{key}", depth + 1))

    def note(self, key, value, name):
        if isinstance(value, int) and not isinstance(value, bool):
            # A bare number is a descriptor where its name says so.
            if value > 2 and (key == "fd" or key.endswith("_fd")):
                self.names.setdefault(value, name)
            return
        try:
            fileno = getattr(type(value), "fileno", None)
            if callable(fileno) and not isinstance(value, type):
                self.names.setdefault(fileno(value), name)
        except Exception:
            # It is closed, or no file after all.
            pass

    def inside(self, value):
        if isinstance(value, (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, dict, list, tuple, set)):
            return None
        if id(value) in self.seen:
            return None
        self.seen.add(id(value))
        try:
            return vars(value)
        except TypeError:
            return None
