//! Exact counts, of each step alone, of all together, and in namespaces of their own.

use super::Held;
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{alone, explain, kernel_release, possible_steps, references, say, turn};

fn alone_is_exact(step: &str) -> Result<()> {
    let _turn = turn();
    let name = step.split('=').next().unwrap_or_default();
    let Some(held) = Held::new(name, &[step])? else { return Ok(()) };
    held.check()
}

macro_rules! steps {
    ($($test:ident: $step:literal,)*) => {
        $(
            #[test]
            fn $test() -> Result<()> {
                alone_is_exact($step)
            }
        )*
    };
}

mod each {
    use super::alone_is_exact;
    use anyhow::Result;

    steps! {
        open_files: "kept=200",
        directories: "directories=20",
        character_devices: "char-devices=20",
        temporary_files: "temporary=20",
        deleted_files: "deleted=20",
        files_by_path_only: "paths=20",
        duplicated_descriptors: "dups=500",
        tcp_connections: "tcp-connections=20",
        connections_closed_by_the_peer: "close-wait=20",
        socketpairs: "socketpairs=20",
        pipes: "pipes=20",
        epoll_instances: "epoll=20",
        eventfds: "eventfd=20",
        inotify_instances: "inotify=20",
        timerfds: "timerfd=20",
        signalfds: "signalfd=20",
        pidfds: "pidfd=20",
        memfds: "memfd=20",
        mapped_files: "mapped=200",
        files_mapped_and_open: "mapped-open=50",
        one_file_mapped_often: "vmas=500",
        files_mapped_as_code: "mapped-code=50",
        memory_files_mapped_as_code: "mapped-memfd-code=50",
        deleted_files_mapped_as_code: "mapped-deleted-code=50",
        files_mapped_by_two: "mapped-shared=50",
        shared_anonymous_memory: "shared-anonymous=50",
        shm_attachments: "shm-attach=100",
        shm_segments_nobody_attaches: "shm-segments=20",
        a_segment_two_processes_attach: "shm-both=50",
        shm_in_huge_pages: "shm-huge=5",
        files_in_flight: "scm-rights=600",
        files_in_flight_in_sockets_in_flight: "scm-nested=300",
        files_in_a_connection_nobody_accepted: "scm-embryo=300",
        files_in_datagrams: "scm-datagram=600",
        io_uring_files: "io-uring-files=200",
        io_urings_without_descriptors: "io-uring-rings=20",
        threads_that_open: "threads=20",
        files_shared_with_children: "shared-children=50",
        main_thread_exited: "main-exited=50",
        tables_of_single_threads: "private-tables=50",
        files_inherited_over_exec: "inherited=50",
        running_programs: "running-programs=5",
        executables_nothing_maps: "executables=5",
    }
}

/// Everything that can hold something on this kernel, at once.
#[test]
fn all_together() -> Result<()> {
    let _turn = turn();
    let steps = possible_steps(20)?;
    let arguments: Vec<_> = steps.iter().map(String::as_str).collect();
    Held::new("all together", &arguments)?.context("it is not expected to be refused")?.check()
}

/// Looked at from outside, a container hides nothing.
#[test]
fn all_together_in_namespaces() -> Result<()> {
    let _turn = turn();
    let steps = possible_steps(20)?;
    let arguments: Vec<_> = ["--namespaces"].into_iter().chain(steps.iter().map(String::as_str)).collect();
    let Some(held) = Held::new("namespaces", &arguments)? else { return Ok(()) };
    ensure!(held.own()? == 1, "{:?}", held.truth.pids());
    held.check()
}

/// References are not handles: one handle may have many.
#[test]
fn references_are_counted_apart() -> Result<()> {
    let _turn = turn();
    let steps = ["dups=300", "mapped-open=30", "vmas=200", "scm-rights=40", "shm-attach=25"];
    let started = fdtrace_tests::harness::Workload::start_if_possible("references", steps)?;
    let mut workload = started.context("it is not expected to be refused")?;
    let pid = workload.pid().to_string();
    let references = || -> Result<_> {
        let document = explain(["--pid", &pid])?;
        let [process] = document.processes.as_slice() else {
            anyhow::bail!("asked for one process: {:?}", document.processes)
        };
        Ok(references(process))
    };
    let before = references()?;
    workload.go()?;
    let after = references()?;
    for (holder, count) in
        [("descriptor", 300 + 30 + 2), ("mapping", 30 + 200), ("scm_rights", 40), ("shm_attach", 25)]
    {
        if fdtrace_tests::expected::unseen_holders(&kernel_release())?.contains_key(holder) {
            continue;
        }
        let of = |counts: &fdtrace_tests::truth::Counts| counts.get(holder).copied().unwrap_or_default();
        ensure!(of(&after) - of(&before) == count, "{holder}: {count} new; {before:?}, {after:?}");
    }
    Ok(())
}

/// Nothing is left over where nobody else is.
#[test]
fn in_a_quiet_machine_nothing_is_left_over() -> Result<()> {
    let _turn = turn();
    if !alone() {
        say("not run: others use this machine; FDTRACE_DISTURB=1 says that nobody does");
        return Ok(());
    }
    let held = Held::new("quiet", &["kept=100", "mapped=100", "scm-rights=100", "shm-segments=10"])?;
    held.context("it is not expected to be refused")?.check()?;
    // The kernel opens and closes something now and then by itself.
    let mut seen = Vec::new();
    for _ in 0..5 {
        let document = explain([])?;
        let residual = document.residual.clone();
        let (min, max) = residual.min.zip(residual.max).context("no residual")?;
        let covers = min <= 0 && max >= 0;
        let exact = !document.file_nr.as_ref().is_some_and(|counted| counted.exact) || (min, max) == (0, 0);
        if covers && exact {
            return Ok(());
        }
        seen.push((document.file_nr.clone(), document.handles.clone(), residual));
    }
    anyhow::bail!("something is left over: {seen:?}")
}
