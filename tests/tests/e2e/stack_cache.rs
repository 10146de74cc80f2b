//! Stacks that are found again without a walk are those that a walk gives.

use std::{collections::HashMap, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use fdtrace::{
    kernel::{Acquisitions, Backend, Emit, Filters, Kernel, RuleBook, Settings, Stacks, Tracer, Unwind},
    stacks::{Completer, Modules, Readers},
    stream::{Record, Stack, StackDump, decode},
};
use fdtrace_common::counters::Counter;
use fdtrace_tests::harness::{Workload, backend, say, scaled, turn};

/// So many have to be found again: how many are depends on when their rules are known, which takes an emulated machine seconds.
const FEWEST: u64 = 100;

fn settings(pid: u32) -> Settings {
    Settings {
        backend: Backend::ALL.into_iter().find(|known| known.name() == backend()),
        filters: Filters { pids: vec![pid], follow: true, ..Filters::default() },
        stacks: Stacks::Both,
        unwind: Unwind::Tables,
        ring_bytes: 8 << 20,
        max_handles: 65_536,
        failures: false,
        mappings: false,
        fd_exit_scan: false,
        descriptors: Acquisitions::Off,
        closers: false,
        submitters: false,
        compare_stacks: true,
        emit: Emit::All,
        object: None,
    }
}

/// Answers what the kernel side asks.
struct Answers {
    completer: Completer,
    rules: RuleBook,
    begun: HashMap<u64, Stack>,
}

impl Answers {
    fn take(&mut self, record: &[u8]) {
        // Bytes that are no record are a defect of the programs, which other tests find.
        match decode(record) {
            Ok(Record::PartialStack(stack)) => drop(self.begun.insert(stack.hash, stack)),
            Ok(Record::StackDump(dump)) => self.complete(&dump),
            _ => {}
        }
    }

    fn complete(&mut self, dump: &StackDump) {
        let Some(begun) = self.begun.remove(&dump.hash) else { return };
        let completed = self.completer.complete(begun, dump, None);
        self.rules.learn(&completed.rules, &completed.code);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_is_found_again_is_what_a_walk_gives() -> Result<()> {
    let _turn = turn();
    let mut workload = Workload::start([format!("wandering={}", scaled(200_000)).as_str()])?;
    let mut kernel = Kernel::inspect()?;
    let mut tracer = Tracer::start(&mut kernel, &settings(workload.pid()), &mut Vec::new)?;
    let readers = Readers::start()?;
    let completer = Completer::new(Modules::default().into(), &readers);
    let mut answers = Answers { completer, rules: tracer.rules()?, begun: HashMap::new() };
    thread::scope(|scope| {
        let work = scope.spawn(|| workload.go());
        while !work.is_finished() {
            tracer.wait(Duration::from_millis(10), None);
            tracer.drain(4096, |record| answers.take(record));
        }
        work.join().ok().context("the workload's thread")?
    })?;
    let counters = tracer.counters()?;
    let of = |counter| counters.get(counter);
    let (all, found, others) = (of(Counter::Allocated), of(Counter::FoundStacks), of(Counter::OtherStacks));
    say(&format!(
        "RESULT stack cache: {found} of {all} stacks found again, {others} of them not those of a walk"
    ));
    ensure!(others == 0, "{others} of {found} stacks are not those of a walk");
    ensure!(found >= FEWEST, "{found} of {all} stacks were found again");
    Ok(())
}
