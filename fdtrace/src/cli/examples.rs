//! What each verb's help ends with: the commands that most people come for.

pub(super) const VERBS: &str = "\
Examples:
  fdtrace explain                    why file-nr is so high, and what lsof does not show
  fdtrace live                       which program leaks, and in which line
  fdtrace check -- make test         fail when something leaks
  fdtrace record -o night.fdt        find out later";

pub(super) const EXPLAIN: &str = "\
Examples:
  fdtrace explain                    where all open files of this machine are
  fdtrace explain -p 4711            what one process holds
  fdtrace explain --deleted          deleted files that take room
  fdtrace explain --sockets close_wait
  fdtrace explain --interval 10s     what grows, and when it meets a limit";

pub(super) const LIVE: &str = "\
Examples:
  fdtrace live                       the whole machine
  fdtrace live -p 4711 --follow      one process and its children
  fdtrace live --comm nginx --kind socket
  fdtrace live --trace now.fdt       and keep a trace";

pub(super) const RECORD: &str = "\
Examples:
  fdtrace record -o night.fdt --max-size 1G --rotate 4
  fdtrace record -o build.fdt -- make
  fdtrace record -o one.fdt -p 4711 --duration 10m";

pub(super) const REPORT: &str = "\
Examples:
  fdtrace report night.fdt           what is alive at its end
  fdtrace report night.fdt@5m        what was alive five minutes after its beginning
  fdtrace report night.fdt --by process
  fdtrace report night.fdt --format flamegraph -o night.svg";

pub(super) const DIFF: &str = "\
Examples:
  fdtrace diff before.fdt after.fdt
  fdtrace diff night.fdt@1m night.fdt@1h";

pub(super) const CHECK: &str = "\
Examples:
  fdtrace check -- ./tests
  fdtrace check --suppressions known.txt --junit-out leaks.xml -- make test
  fdtrace check --until ./load-test -- ./server
  fdtrace check --pid 4711 --duration 10m";
