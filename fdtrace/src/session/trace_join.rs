//! Joins a walk with a trace: who allocated what.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::Failure;
use crate::{
    explain::{Explanation, Maker, Makers, Traced, TracedHandle, makers},
    files,
    handles::{Fold, Handle},
    holders::HolderSnapshot,
    model::{
        Kind, Origin, REPORT_SCHEMA,
        explain::{Document, SiteLine, TraceLine, handle::Document as HandlesDocument},
    },
    process::around,
    replay::{Replay, Step},
    stacks::short_stack,
    text::fmt::{escape_control, seconds},
    trace::{End, Header, Reader, Unjustified},
    view::{Selection, site_id},
};

/// What is written at all is written within so many ns: `record` does it every second.
const FLUSH: u64 = 3_000_000_000;
/// So long a trace that is behind is read again, each time after a pause.
const TIMEOUT: Duration = Duration::from_millis(2500);
const PAUSE: Duration = Duration::from_millis(250);

/// What lived when a walk was taken, by a trace.
pub(crate) struct Trace {
    replay: Replay<File>,
    path: PathBuf,
    /// A site's origin and its stack in a line.
    sites: HashMap<u64, (Origin, String)>,
    /// The addresses of segments' own handles.
    segments: HashMap<u32, u64>,
    remarks: Vec<String>,
    /// When the last event was, in ns since the trace began.
    length: u64,
}

impl Trace {
    /// Reads a trace up to the moment of a walk. One that is still written is read again until it is that far.
    pub(crate) fn read(path: &Path, moment_ns: u64) -> Result<Self, Failure> {
        let begun = Instant::now();
        loop {
            let trace = Self::read_once(path, moment_ns)?;
            if !trace.lags(moment_ns) || begun.elapsed() > TIMEOUT {
                return Ok(trace);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether its writer may be about to write of the moment.
    fn lags(&self, moment_ns: u64) -> bool {
        let end = self.replay.header().start_ns.saturating_add(self.length);
        let is_cut = matches!(self.replay.end(), Some(End::Cut { .. }));
        is_cut && !self.replay.goes_on() && moment_ns.saturating_sub(end) < FLUSH
    }

    fn read_once(path: &Path, moment_ns: u64) -> Result<Self, Failure> {
        let name = escape_control(&path.to_string_lossy());
        let fail = |error: &dyn std::fmt::Display| Failure::Failed(anyhow::anyhow!("{name}: {error}"));
        let open = || files::open(path).map_err(|error| fail(&error));
        let reader = Reader::new(open()?).map_err(|error| fail(&error))?;
        let header = reader.header();
        let mut remarks = Vec::new();
        remarks.extend(check_boot(header).map_err(|why| fail(&why))?);
        let Some(until) = moment_ns.checked_sub(header.start_ns) else {
            return Err(fail(&"the trace began after now: it is not of this boot"));
        };
        // What happened since is not true of the walk.
        let until = Some(Duration::from_nanos(until));
        let mut replay = Replay::new(open()?, Selection::default(), until).map_err(|error| fail(&error))?;
        while replay.step()? != Step::Done {}
        let mut trace = Self {
            path: path.to_owned(),
            sites: HashMap::new(),
            segments: HashMap::new(),
            remarks,
            length: 0,
            replay,
        };
        trace.gather(moment_ns).map_err(|error| fail(&error))?;
        Ok(trace)
    }

    fn gather(&mut self, moment_ns: u64) -> Result<(), Unjustified> {
        let snapshot = self.replay.snapshot()?;
        let document = self.replay.view().document(REPORT_SCHEMA, &snapshot);
        self.sites = document
            .sites
            .iter()
            .filter_map(|site| {
                let stack = match (&site.user_stack[..], &site.kernel_stack[..]) {
                    ([], []) => "where, the trace does not say (yet)".to_owned(),
                    (user, kernel) => short_stack(user, kernel, site.user_stack_complete),
                };
                Some((u64::from_str_radix(&site.id, 16).ok()?, (site.origin, stack)))
            })
            .collect();
        self.segments = self.own_handles_of_segments();
        self.length = snapshot.now.saturating_sub(self.replay.header().start_ns);
        let header = self.replay.header();
        let missed = moment_ns.saturating_sub(snapshot.now);
        self.remarks.extend(limits(header, self.replay.end(), missed));
        self.remarks
            .extend(document.trace.incomplete.iter().map(|why| format!("the trace is not whole: {why}")));
        Ok(())
    }

    /// A segment's own file is no attach, and its name says the number.
    fn own_handles_of_segments(&self) -> HashMap<u32, u64> {
        let fold = self.replay.fold();
        let of_shm = fold.table().iter().filter(|(_, handle)| handle.kind == Kind::Shm as u8);
        let own = of_shm.filter(|(_, handle)| !self.is_attach(fold, handle));
        own.filter_map(|(address, _)| {
            let name = fold.details().get(address)?.name.as_deref()?;
            let id = name.strip_prefix("SysV segment ")?.split(' ').next()?.parse().ok()?;
            Some((id, address))
        })
        .collect()
    }

    fn is_attach(&self, fold: &Fold, handle: &Handle) -> bool {
        let group = fold.group_at(handle.group);
        let site = self.sites.get(&site_id(group.site, &group.call));
        site.is_some_and(|(origin, _)| origin == Origin::ShmAttach.name())
    }

    /// Writes into a document who allocated what it shows.
    pub(crate) fn tell(&self, snapshot: &HolderSnapshot, found: &Explanation, document: &mut Document) {
        let places = || 0..u32::try_from(snapshot.handles.len()).unwrap_or(u32::MAX);
        let sum = makers(snapshot, places(), self);
        let hidden = document.hidden.iter_mut().zip(&found.hidden_groups);
        let uncounted = document.uncounted.iter_mut().zip(&found.uncounted_groups);
        for (line, group) in hidden.chain(uncounted) {
            let of = makers(snapshot, group.places.iter().copied(), self);
            (line.older, line.sites) = (of.older, self.lines(&of));
        }
        for (line, process) in document.processes.iter_mut().zip(&found.processes) {
            for (line, group) in line.files.iter_mut().zip(&process.files) {
                let of = makers(snapshot, group.places.iter().copied(), self);
                (line.older, line.sites) = (of.older, self.lines(&of));
            }
        }
        document.trace = Some(self.line(&sum));
    }

    /// The same for handles that were asked for one by one.
    pub(crate) fn tell_handles(
        &self,
        snapshot: &HolderSnapshot,
        places: &[u32],
        document: &mut HandlesDocument,
    ) {
        for (line, place) in document.handles.iter_mut().zip(places) {
            let of = makers(snapshot, [*place], self);
            (line.older, line.sites) = (of.older, self.lines(&of));
        }
        document.trace = Some(self.line(&makers(snapshot, places.iter().copied(), self)));
    }

    fn line(&self, sum: &Makers) -> TraceLine {
        let header = self.replay.header();
        let start = humantime::parse_rfc3339(&header.start).ok();
        let end = start.and_then(|start| start.checked_add(Duration::from_nanos(self.length)));
        let time = |time| humantime::format_rfc3339_millis(time).to_string();
        TraceLine {
            file: self.path.to_string_lossy().into_owned(),
            start: start.map(time).unwrap_or_default(),
            end: end.map(time).unwrap_or_default(),
            traced: sum.sites.iter().map(|site| site.count).sum(),
            older: sum.older,
            unknown: sum.unknown,
            remarks: self.remarks.clone(),
        }
    }

    fn lines(&self, makers: &Makers) -> Vec<SiteLine> {
        let line = |site: &crate::explain::MakingSite| SiteLine {
            id: format!("{:016x}", site.site),
            count: site.count,
            stack: self.sites.get(&site.site).map(|(_, stack)| stack.clone()).unwrap_or_default(),
            pids: site.pids.clone(),
        };
        makers.sites.iter().map(line).collect()
    }
}

impl Traced for Trace {
    fn at(&self, address: u64) -> Option<TracedHandle<'_>> {
        let fold = self.replay.fold();
        let handle = fold.table().get(address)?;
        let group = fold.group_at(handle.group);
        let maker = if group.existing {
            Maker::Earlier
        } else {
            Maker::Site { site: site_id(group.site, &group.call), pid: fold.image(group.image).key.tgid }
        };
        let name = fold.details().get(address).and_then(|detail| detail.name.as_deref());
        Some(TracedHandle { maker, kind: Kind::from_number(handle.kind), name })
    }

    fn segment(&self, shmid: u32) -> Option<TracedHandle<'_>> {
        self.at(*self.segments.get(&shmid)?)
    }
}

/// Addresses of another boot mean nothing. What cannot be checked is said.
fn check_boot(header: &Header) -> Result<Option<String>, String> {
    let (ours, kernel) = (around::boot_id(), around::kernel_release());
    if header.boot_id.is_empty() || ours.is_empty() {
        if !header.kernel.is_empty() && header.kernel != kernel {
            return Err(format!(
                "the trace is of kernel {}, and this is {kernel}",
                escape_control(&header.kernel)
            ));
        }
        return Ok(Some(
            "whether the trace is of this boot cannot be checked; its kernel and its time allow it"
                .to_owned(),
        ));
    }
    if header.boot_id == ours {
        return Ok(None);
    }
    let host = escape_control(&header.host);
    Err(format!("the trace is of another boot, or another machine ({host}): its addresses mean nothing here"))
}

/// What the trace does not know for reasons of its own.
fn limits(header: &Header, end: Option<&End>, missed_ns: u64) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(End::Damaged { at, lost, .. }) = end {
        remarks.push(format!("the trace is damaged at byte {at}, and {lost} events are lost"));
    }
    if missed_ns > FLUSH {
        #[expect(clippy::cast_precision_loss, reason = "a time in words")]
        let missed = seconds(missed_ns as f64 / 1e9);
        remarks.push(format!("the trace ends {missed} before now: what was allocated since is unknown"));
    }
    if !header.filters.is_empty() {
        let filters = header.filters.join(" ");
        remarks.push(format!("it was recorded with {filters}: what others allocated is unknown"));
    }
    if header.min_age_ns > 0 {
        #[expect(clippy::cast_precision_loss, reason = "a time in words")]
        let age = seconds(header.min_age_ns as f64 / 1e9);
        remarks.push(format!("it leaves out handles younger than {age}: they are unknown"));
    }
    if remarks.is_empty() {
        remarks.push(
            "what is unknown is younger than the trace's last event, or pre-existing and held by neither a \
             descriptor nor a mapping when it began"
                .to_owned(),
        );
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_of_another_boot_is_refused() {
        let header = |boot_id: String, kernel: String| Header { boot_id, kernel, ..Header::default() };
        let (boot, kernel) = (around::boot_id(), around::kernel_release());
        assert_eq!(check_boot(&header(boot, kernel.clone())), Ok(None));
        let other = check_boot(&header("other".to_owned(), kernel.clone()));
        assert!(other.is_err_and(|why| why.contains("another boot")));
        // One that does not say which boot it is of has to be of this kernel.
        let unknown = check_boot(&header(String::new(), kernel));
        assert!(
            unknown.is_ok_and(|remark| remark.is_some_and(|remark| remark.contains("cannot be checked")))
        );
        let older = check_boot(&header(String::new(), "2.6.32".to_owned()));
        assert!(older.is_err_and(|why| why.contains("2.6.32")));
    }

    #[test]
    fn a_trace_says_what_it_cannot_know() {
        let header =
            Header { filters: vec!["--pid 7".to_owned()], min_age_ns: 1_000_000_000, ..Header::default() };
        let remarks = limits(&header, Some(&End::Complete), 60_000_000_000).join("\n");
        assert!(
            remarks.contains("60s") && remarks.contains("--pid 7") && remarks.contains("1.0s"),
            "{remarks}"
        );
        let still_written = limits(&Header::default(), Some(&End::Cut { at: 9 }), 1_000_000_000);
        assert!(matches!(&still_written[..], [remark] if remark.contains("last event")), "{still_written:?}");
    }
}
