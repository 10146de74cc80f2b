//! The steps of the workload, together and each alone: origin, kind, counts and causes, with the handles held and after
//! they are let go.

use crate::observe::Observation;
use anyhow::Result;
use fdtrace_tests::{
    expected::Load,
    harness::{Workload, possible_steps, turn},
};

fn alone(name: &str, step: &str) -> Result<()> {
    let _turn = turn();
    let action = step.split('=').next().unwrap_or_default();
    match Workload::start_if_possible(action, [step])? {
        Some(workload) => observe(name, workload),
        None => Ok(()),
    }
}

fn observe(name: &str, workload: Workload) -> Result<()> {
    let mut observation = Observation::start(workload, Load::One, &[])?;
    let truth = observation.workload.go()?;
    observation.settle(&truth)?.report(&format!("{name}, held"))?;
    let truth = observation.workload.close()?;
    observation.settle(&truth)?.report(&format!("{name}, let go"))?;
    observation.last_words(&truth)?.0.report(&format!("{name}, last words"))
}

/// Everything that this kernel can do, in one program.
#[test]
fn all_together() -> Result<()> {
    let _turn = turn();
    let steps = possible_steps(20)?;
    observe("all together", Workload::start(steps.iter().map(String::as_str))?)
}

macro_rules! steps {
    ($($test:ident: $step:literal,)*) => {
        $(
            #[test]
            fn $test() -> Result<()> {
                alone(stringify!($test), $step)
            }
        )*

        /// A step that is in no test would be dead weight in the workload.
        #[test]
        fn every_step_has_a_test() {
            let tested = [$($step),*].map(|step| step.split('=').next().unwrap_or_default());
            let missing: Vec<_> =
                fdtrace_tests::workload::names().filter(|name| !tested.contains(name)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

mod each {
    use super::alone;
    use anyhow::Result;

    steps! {
        open_and_close: "pairs=500",
        open_files: "kept=200",
        files_that_leak_now_and_then: "leaky=200",
        failed_opens: "failed=300",
        no_limit_met: "crowded=100",
        directories: "directories=20",
        character_devices: "char-devices=20",
        temporary_files: "temporary=20",
        deleted_files: "deleted=20",
        files_by_path_only: "paths=20",
        duplicated_descriptors: "dups=50",
        tcp_sockets: "tcp=20",
        tcp_connections: "tcp-connections=20",
        connections_closed_by_the_peer: "close-wait=20",
        unix_sockets: "unix=20",
        socketpairs: "socketpairs=20",
        pipes: "pipes=20",
        epoll_instances: "epoll=20",
        eventfds: "eventfd=20",
        inotify_instances: "inotify=20",
        timerfds: "timerfd=20",
        signalfds: "signalfd=20",
        pidfds: "pidfd=20",
        memfds: "memfd=20",
        mapped_files: "mapped=50",
        files_mapped_and_open: "mapped-open=20",
        one_file_mapped_often: "vmas=100",
        files_mapped_as_code: "mapped-code=20",
        memory_files_mapped_as_code: "mapped-memfd-code=20",
        deleted_files_mapped_as_code: "mapped-deleted-code=20",
        files_mapped_by_two: "mapped-shared=20",
        shared_anonymous_memory: "shared-anonymous=20",
        shm_attachments: "shm-attach=50",
        shm_segments_nobody_attaches: "shm-segments=5",
        shm_in_huge_pages: "shm-huge=5",
        files_in_flight: "scm-rights=300",
        files_in_flight_in_sockets_in_flight: "scm-nested=300",
        files_in_a_connection_nobody_accepted: "scm-embryo=300",
        files_in_datagrams: "scm-datagram=300",
        io_uring_files: "io-uring-files=50",
        held_for_a_moment: "passing=50",
        threads_that_open: "threads=20",
        forked_children: "forks=20",
        children_that_exit_without_closing: "exit-children=20",
        children_that_exec: "exec-children=20",
        running_programs: "running-programs=5",
        closed_by_another_process: "other-process=20",
        last_holder_exits: "last-holder-exits=20",
        a_segment_two_processes_attach: "shm-both=20",
        files_shared_with_children: "shared-children=20",
        main_thread_exited: "main-exited=20",
        tables_of_single_threads: "private-tables=20",
        files_inherited_over_exec: "inherited=20",
        executables_nothing_maps: "executables=3",
        io_urings_without_descriptors: "io-uring-rings=20",
        opened_by_many_stacks: "wandering=500",
    }
}

/// A process that ends with everything open: the cause says so, and nothing stays alive.
#[test]
fn exit_of_the_process() -> Result<()> {
    let _turn = turn();
    let workload = Workload::start(["kept=50", "socketpairs=20", "mapped=20", "shm-attach=20", "memfd=10"])?;
    let Observation { mut workload, tracer, .. } = Observation::start(workload, Load::One, &[])?;
    let truth = workload.go()?;
    workload.end()?;
    let gone =
        |document: &fdtrace_tests::harness::Document| document.trace.events.released == truth.allocated;
    let document = tracer.wait_for(fdtrace_tests::harness::TIMEOUT / 4, gone)?;
    let events = &document.trace.events;
    anyhow::ensure!(gone(&document), "of {} handles {} are released", truth.allocated, events.released);
    let causes = document.released_by();
    // Where the kernel frees late, nobody can tell. What a sample of the tracer has in hand at that moment goes with the sample.
    let by_exit = |cause: &String| cause == "exit" || cause == "tracer";
    let known = causes.contains_key("exit") && causes.keys().all(by_exit)
        || causes.keys().all(|cause| cause == "unknown");
    anyhow::ensure!(known, "released by {causes:?}");
    Ok(())
}
