//! A profile for pprof: the call sites are its stacks, the handles its samples.

mod build;
mod proto;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use flate2::{Compression, write::GzEncoder};
use prost::Message as _;

use self::{
    build::{Builder, signed},
    proto::{Label, Profile, Sample},
};
use crate::{
    analysis::{Share, shares},
    model::{Document, Site},
};

/// What a sample counts, with its unit; the first one is shown unless asked otherwise.
const SAMPLE_TYPES: [(&str, &str); 3] = [("live", "count"), ("allocated", "count"), ("age", "nanoseconds")];

/// Writes a profile, compressed as pprof wants it.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, document: &Document) -> io::Result<()> {
    let mut encoder = GzEncoder::new(&mut *out, Compression::default());
    encoder.write_all(&profile(document).encode_to_vec())?;
    encoder.finish()?;
    out.flush()
}

fn profile(document: &Document) -> Profile {
    let mut builder = Builder::new();
    for (name, unit) in SAMPLE_TYPES {
        builder.sample_type(name, unit);
    }
    if let Some(program) = main_program(document) {
        builder.mapping(Some(program));
    }
    for site in &document.sites {
        add_site(&mut builder, site);
    }
    for remark in remarks(document) {
        builder.comment(&remark);
    }
    let mut profile = builder.finish(SAMPLE_TYPES[0].0);
    profile.time_nanos = start(document);
    profile.duration_nanos = signed(document.trace.duration_ns);
    profile
}

/// pprof takes the first mapping for that of the program: here the one that has most handles.
fn main_program(document: &Document) -> Option<&crate::model::UserFrame> {
    document.sites.iter().find_map(|site| {
        let exe = site.processes.first()?.exe.as_str();
        site.user_stack.iter().find(|frame| frame.module.as_deref() == Some(exe))
    })
}

fn add_site(builder: &mut Builder, site: &Site) {
    let mut locations = builder.kernel_locations(&site.kernel_stack);
    locations.extend(builder.user_locations(&site.user_stack));
    let shares = shares(site);
    let oldest = oldest(site, &shares);
    for (index, share) in shares.iter().enumerate() {
        let age = if index == oldest { site.oldest_age_ns } else { 0 };
        let value = [share.live, share.allocated, age].map(signed).to_vec();
        let label = labels(builder, site, share);
        builder.sample(Sample { location_id: locations.clone(), value, label });
    }
}

/// pprof adds samples up, so one share of a site bears the age of its oldest handle.
fn oldest(site: &Site, shares: &[Share<'_>]) -> usize {
    let pid = site.examples.first().map(|example| example.pid);
    let is_owner = |share: &Share<'_>| share.process.map(|process| process.pid) == pid;
    shares.iter().position(|share| pid.is_some() && is_owner(share)).unwrap_or_default()
}

fn labels(builder: &mut Builder, site: &Site, share: &Share<'_>) -> Vec<Label> {
    let mut labels = vec![builder.label("origin", site.origin.name())];
    labels.extend(site.kinds.keys().map(|kind| builder.label("kind", kind.name())));
    if let Some(process) = share.process {
        labels.push(builder.number_label("pid", process.pid.into()));
        if !process.comm.is_empty() {
            labels.push(builder.label("comm", &process.comm));
        }
    }
    labels
}

fn remarks(document: &Document) -> Vec<String> {
    let trace = &document.trace;
    let mut remarks = vec![format!("open file handles, {} backend, Linux {}", trace.backend, trace.kernel)];
    if !trace.complete {
        remarks.push(format!("NOT COMPLETE: {}", trace.incomplete.join(", ")));
    }
    remarks
}

fn start(document: &Document) -> i64 {
    let time: Option<SystemTime> = humantime::parse_rfc3339(&document.trace.start).ok();
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or_default()
}
