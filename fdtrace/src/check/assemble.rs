//! From what an evaluator knows to findings.

use std::collections::HashMap;

use super::{
    diagnostics,
    evaluate::Evaluator,
    places::{Place, Places},
    rule::{Evaluated, Rule},
};
use crate::{
    handles::Snapshot,
    model::{
        Document, Holder, Process, Site,
        check::{AppliedPolicy, CommandRun, Diagnostic, DiagnosticKind, Finding, Findings, SCHEMA, Verdict},
    },
    stacks,
    stream::{Call, UserStack},
    view,
};

impl Findings {
    /// What an evaluator has found: by a rule, with the sites of a document of the same stream.
    #[must_use]
    pub fn of(
        evaluator: &Evaluator,
        rule: &Rule<'_>,
        command: CommandRun,
        document: &Document,
        snapshot: &Snapshot,
        start_ns: u64,
    ) -> Self {
        let sites: HashMap<&str, &Site> =
            document.sites.iter().map(|site| (site.id.as_str(), site)).collect();
        let places = Places::of(evaluator);
        let evaluated = rule.apply(evaluator, &places, snapshot.stats.lost_ends > 0);
        let name = |place: Place| name(evaluator, &sites, place);
        Self {
            schema: SCHEMA.to_owned(),
            // The policy says what the findings amount to.
            verdict: Verdict::Clean,
            evaluated_early: false,
            incomplete_reasons: incomplete_reasons(evaluator, &command, snapshot),
            command,
            trace: document.trace.clone(),
            sites: evaluated.iter().map(|found| finding(found, &sites)).collect(),
            diagnostics: diagnostics::noticed(
                evaluator,
                &places,
                &evaluated,
                start_ns,
                rule.close_wait_ms,
                &name,
            ),
            tables: Vec::new(),
            images: evaluator.programs(),
            scopes: Vec::new(),
            applied: AppliedPolicy::default(),
        }
    }
}

impl Findings {
    /// The sites are those of the moment when a service was told to end, and so is what was said of them.
    pub(crate) fn evaluate_early(&mut self, early: Self) {
        let of_sites = |diagnostic: &Diagnostic| diagnostic.kind == DiagnosticKind::GrowingWithPeers;
        self.diagnostics.retain(|diagnostic| !of_sites(diagnostic));
        self.diagnostics.extend(early.diagnostics.into_iter().filter(of_sites));
        (self.sites, self.evaluated_early) = (early.sites, true);
    }
}

pub(super) fn id(place: Place, call: &Call) -> String {
    match place {
        Place::Site(id) => format!("{id:016x}"),
        Place::Stack(stack) => format!("{:016x}", view::site_id(None, call) ^ stack),
    }
}

fn name(evaluator: &Evaluator, sites: &HashMap<&str, &Site>, place: Place) -> (String, String) {
    let id = id(place, &Call::default());
    let known = match place {
        Place::Site(number) => evaluator.site(number),
        Place::Stack(_) => None,
    };
    let words = match (sites.get(id.as_str()), known) {
        (Some(site), _) => stacks::place_of_site(site),
        (None, Some(site)) => format!("{} by an unknown caller", site.origin.name()),
        (None, None) => "an unknown caller".to_owned(),
    };
    (id, words)
}

fn finding(found: &Evaluated, sites: &HashMap<&str, &Site>) -> Finding {
    let id = id(found.place, &found.call);
    let mut site = sites.get(id.as_str()).map_or_else(|| unknown(&id, &found.call), |site| (*site).clone());
    site.examples.clone_from(&found.examples);
    site.kinds.clone_from(&found.kinds);
    site.repeats.clone_from(&found.repeats);
    site.descriptors = if found.mapped { 0 } else { found.handles };
    site.holders = [(if found.mapped { Holder::Mapping } else { Holder::Descriptor }, found.handles)].into();
    site.processes = found
        .images
        .iter()
        .map(|image| Process {
            pid: image.pid,
            comm: image.comm.clone(),
            exe: image.exe.clone(),
            cgroup: String::new(),
            live: image.handles,
            descriptors: if found.mapped { 0 } else { image.handles },
            allocated: Some(image.allocated),
        })
        .collect();
    Finding {
        class: found.class,
        suppressed_by: None,
        baseline: None,
        class_before: found.class,
        because: found.because.clone(),
        leaked: found.leaked,
        handles: found.handles,
        closed_by_end: found.closed_by_end,
        images: found.images.clone(),
        images_in_all: found.images_in_all,
        site,
    }
}

/// A site of which nothing was found out.
pub(super) fn unknown(id: &str, call: &Call) -> Site {
    let site = crate::stream::Site {
        id: 0,
        origin: stacks::origin(&[], call),
        kernel: Vec::new(),
        user: UserStack::default(),
    };
    Site { id: id.to_owned(), ..view::bare_site(&site) }
}

/// Nothing was seen of what was asked for: whether it leaks is not known.
const fn unseen(command: &CommandRun) -> &'static str {
    match command.argv.is_empty() {
        true => {
            "no program of those asked for was seen: none opened a file or started another program meanwhile"
        }
        false => "nothing was seen of the command",
    }
}

/// What was lost that can hide a leak. What the kernel's own table puts right is not lost.
fn incomplete_reasons(evaluator: &Evaluator, command: &CommandRun, snapshot: &Snapshot) -> Vec<String> {
    let stats = &snapshot.stats;
    let mut incomplete_reasons = Vec::new();
    if evaluator.programs() == 0 {
        incomplete_reasons.push(unseen(command).to_owned());
    }
    let mut reason = |count: u64, text: &str| {
        if count > 0 {
            incomplete_reasons.push(format!("{count} {text}"));
        }
    };
    reason(
        stats.lost_ends,
        "records of forks, execs, exits or descriptors open then found no room in the ring (--ring-size)",
    );
    reason(stats.lost_handles, "handles found no room in the kernel's table (--max-handles)");
    reason(stats.unfollowed, "processes could not be followed: there were too many at once");
    reason(stats.lost_descriptors, "duplicated descriptors found no room in the kernel's table");
    reason(
        stats.cut_walks,
        "tables of descriptors were too long to be looked through when their process ended",
    );
    reason(stats.missed_ends, "forks, execs, exits or duplications may have been missed by the kernel");
    reason(stats.unsynced, "allocations may have been missed by the kernel");
    reason(stats.malformed, "records could not be read");
    reason(evaluator.unknown(), "descriptors were open at an end whose allocation was not seen");
    incomplete_reasons
}
