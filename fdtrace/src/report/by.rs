//! A document summed up by something else than the call site.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    io::{self, Write},
    slice,
};

use serde::Serialize;

use super::{
    Document, Handles, Process, Site, Style, Trace,
    fmt::{at_least, counted, escape_control, number},
    shares,
    stack::place,
    terminal::Terminal,
    text::{headline, losses, paint},
};

/// Name and version of the shape.
const SCHEMA: &str = "fdtrace.report/1";

/// Stands for what nobody looked at.
const UNKNOWN: &str = "unknown";

/// What a row of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A call site.
    Site,
    /// A process.
    Process,
    /// What the handles are.
    Kind,
    /// Which kernel path allocated them.
    Origin,
    /// What holds them.
    Holder,
}

/// A document summed up.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Name and version of this shape.
    pub schema: &'static str,
    /// What a row is.
    pub by: By,
    /// The trace that it was taken from.
    pub trace: Trace,
    /// The whole of the handles.
    pub handles: Handles,
    /// Most live handles first.
    pub rows: Vec<Row>,
}

/// One row.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The site's id, `comm (pid)`, or the word for a kind, an origin, a holder.
    pub key: String,
    /// Alive.
    pub live: u64,
    /// Made; none where that is not known: what a handle was, and what held it, is known of live ones only.
    pub allocated: Option<u64>,
    /// Call sites.
    pub sites: u64,
    /// Processes that made handles at these sites.
    pub processes: u64,
    /// The process, of a table by process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// Its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// The site with the most live handles of the row.
    pub top_site: String,
    /// Where that is, in one name.
    pub place: String,
}

/// What a site contributes to a row.
struct Part<'a> {
    key: String,
    site: &'a Site,
    live: u64,
    allocated: Option<u64>,
    processes: &'a [Process],
}

/// A row in the making.
struct Sum<'a> {
    first: Part<'a>,
    live: u64,
    allocated: Option<u64>,
    sites: HashSet<&'a str>,
    processes: HashSet<(u32, &'a str)>,
    top: (u64, &'a Site),
}

/// Sums up a document.
#[must_use]
pub fn table(document: &Document, by: By) -> Table {
    let mut sums: BTreeMap<String, Sum<'_>> = BTreeMap::new();
    // What makes no handles has no share in sums of them.
    let counted = |site: &&Site| !site.acquired || matches!(by, By::Site | By::Origin);
    for part in document.sites.iter().filter(counted).flat_map(|site| parts(site, by)) {
        match sums.get_mut(&part.key) {
            Some(sum) => sum.add(&part),
            None => drop(sums.insert(part.key.clone(), Sum::new(part))),
        }
    }
    let mut rows: Vec<Row> = sums.into_values().map(|sum| sum.row(by)).collect();
    rows.sort_by_key(|row| (Reverse(row.live), Reverse(row.allocated)));
    Table { schema: SCHEMA, by, trace: document.trace.clone(), handles: document.handles.clone(), rows }
}

fn parts(site: &Site, by: By) -> Vec<Part<'_>> {
    let whole = |key: &str| Part {
        key: key.to_owned(),
        site,
        live: site.live,
        allocated: Some(site.allocated),
        processes: &site.processes,
    };
    match by {
        By::Site => vec![whole(&site.id)],
        By::Origin => vec![whole(site.origin)],
        By::Process => site.processes.iter().map(|process| process_part(site, process)).collect(),
        By::Kind => live_parts(site, &site.kinds),
        By::Holder => live_parts(site, &site.holders),
    }
}

fn process_part<'a>(site: &'a Site, process: &'a Process) -> Part<'a> {
    Part {
        key: format!("{} ({})", process.comm, process.pid),
        site,
        live: process.live,
        allocated: shares::allocated(site, process),
        processes: slice::from_ref(process),
    }
}

/// Live handles by a word; those that the map does not tell are unknown.
fn live_parts<'a>(site: &'a Site, counts: &BTreeMap<&'static str, u64>) -> Vec<Part<'a>> {
    let reported: u64 = counts.values().sum();
    let rest = (UNKNOWN, site.live.saturating_sub(reported));
    let counts = counts.iter().map(|(word, count)| (*word, *count)).chain([rest]);
    let part = |(word, live): (&str, u64)| Part {
        key: word.to_owned(),
        site,
        live,
        allocated: None,
        processes: &site.processes,
    };
    counts.filter(|(_, count)| *count > 0).map(part).collect()
}

impl<'a> Sum<'a> {
    fn new(part: Part<'a>) -> Self {
        let mut sum = Self {
            live: 0,
            allocated: Some(0),
            sites: HashSet::new(),
            processes: HashSet::new(),
            top: (part.live, part.site),
            first: part,
        };
        let Part { site, live, allocated, processes, .. } = sum.first;
        sum.add(&Part { key: String::new(), site, live, allocated, processes });
        sum
    }

    fn add(&mut self, part: &Part<'a>) {
        self.live += part.live;
        self.allocated = self.allocated.zip(part.allocated).map(|(sum, more)| sum + more);
        self.sites.insert(&part.site.id);
        self.processes.extend(part.processes.iter().map(|process| (process.pid, process.comm.as_str())));
        if part.live > self.top.0 {
            self.top = (part.live, part.site);
        }
    }

    fn row(self, by: By) -> Row {
        let process = self.first.processes.first().filter(|_| by == By::Process);
        let site = self.top.1;
        Row {
            key: self.first.key,
            live: self.live,
            allocated: self.allocated,
            sites: self.sites.len() as u64,
            processes: self.processes.len() as u64,
            pid: process.map(|process| process.pid),
            comm: process.map(|process| process.comm.clone()),
            exe: process.map(|process| process.exe.clone()),
            top_site: site.id.clone(),
            place: place(&site.user_stack, &site.kernel_stack),
        }
    }
}

/// Writes a table as one line of JSON.
///
/// # Errors
/// When the output cannot be written.
pub fn write_json(out: &mut impl Write, table: &Table) -> io::Result<()> {
    super::json::write(out, table)
}

/// Writes a table as text.
///
/// # Errors
/// When the output cannot be written.
pub fn write_text(out: &mut impl Write, table: &Table, style: Style) -> io::Result<()> {
    let out = &mut Terminal::new(out, style.color);
    writeln!(out, "{}", paint(style, "1", &headline(&table.trace, &table.handles, style)))?;
    let columns = Columns::of(table, style);
    if !table.rows.is_empty() {
        columns.write(out, &columns.header())?;
    }
    for row in table.rows.iter().take(style.top) {
        columns.write(out, &cells(row, table.trace.lost.events > 0))?;
    }
    let hidden = table.rows.len().saturating_sub(style.top);
    if hidden > 0 {
        writeln!(out, "          and {} more (--top)", counted(hidden as u64, "row"))?;
    }
    if table.by == By::Holder && table.rows.iter().all(|row| row.key == UNKNOWN) {
        writeln!(out, "No holder is known: this trace did not look for them.")?;
    }
    writeln!(out, "lost: {}", losses(&table.trace))?;
    out.flush()
}

/// Numbers of a row, its key, and the place of most of its handles.
type Cells = ([String; 4], String, String);

fn cells(row: &Row, lossy: bool) -> Cells {
    let allocated = row.allocated.map_or_else(|| "?".to_owned(), |allocated| at_least(allocated, lossy));
    let numbers = [number(row.live), allocated, number(row.sites), number(row.processes)];
    (numbers, escape_control(&row.key), escape_control(&row.place))
}

/// Which numbers say something in a table, and how wide its keys are.
struct Columns {
    by: By,
    shown: [bool; 4],
    width: usize,
}

impl Columns {
    fn of(table: &Table, style: Style) -> Self {
        let by = table.by;
        let keys = table.rows.iter().take(style.top).map(|row| escape_control(&row.key).chars().count());
        let allocated = !matches!(by, By::Kind | By::Holder);
        let shown = [true, allocated, by != By::Site, by != By::Process];
        Self { by, shown, width: keys.max().unwrap_or_default().max("PROCESS".len()) }
    }

    fn header(&self) -> Cells {
        let key = match self.by {
            By::Site => "SITE",
            By::Process => "PROCESS",
            By::Kind => "KIND",
            By::Origin => "ORIGIN",
            By::Holder => "HOLDER",
        };
        let place = if self.by == By::Site { "AT" } else { "MAX FROM" };
        let numbers = ["LIVE", "ALLOCATED", "SITES", "PROCESSES"].map(str::to_owned);
        (numbers, key.to_owned(), place.to_owned())
    }

    fn write(&self, out: &mut impl Write, (numbers, key, place): &Cells) -> io::Result<()> {
        for (number, _) in numbers.iter().zip(self.shown).filter(|(_, shown)| *shown) {
            write!(out, "{number:>9} ")?;
        }
        writeln!(out, " {key:<width$}  {place}", width = self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::*, *};

    const STYLE: Style = Style { color: false, top: 10, verbose: false, finished: true };

    fn two_sites() -> Document {
        let mut other = Site { origin: "socket", ..site("b", 10) };
        other.kinds = BTreeMap::from([("socket", 6), ("regular", 1)]);
        other.holders = BTreeMap::from([("descriptor", 8), ("mapping", 2)]);
        other.processes = vec![process(7, "app", 4), process(8, "web", 6)];
        other.user_stack[1].symbol = Some("connect_all".to_owned());
        document(vec![site("a", 3), other])
    }

    fn rows(by: By) -> Vec<(String, u64, Option<u64>, u64, u64, String)> {
        let row = |row: Row| (row.key, row.live, row.allocated, row.sites, row.processes, row.place);
        table(&two_sites(), by).rows.into_iter().map(row).collect()
    }

    fn expected(
        key: &str,
        live: u64,
        allocated: Option<u64>,
        sites: u64,
        processes: u64,
        place: &str,
    ) -> (String, u64, Option<u64>, u64, u64, String) {
        (key.to_owned(), live, allocated, sites, processes, place.to_owned())
    }

    #[test]
    fn by_process() {
        assert_eq!(
            rows(By::Process),
            [
                expected("app (7)", 7, None, 2, 1, "connect_all"),
                expected("web (8)", 6, None, 1, 1, "connect_all")
            ]
        );
        let mut counted = two_sites();
        counted.sites[1].processes[0].allocated = Some(11);
        assert_eq!(table(&counted, By::Process).rows[0].allocated, Some(19));
    }

    #[test]
    fn by_kind_all_live_handles_count() {
        assert_eq!(
            rows(By::Kind),
            [
                expected("socket", 6, None, 1, 2, "connect_all"),
                expected("regular", 4, None, 2, 2, "leak"),
                expected("unknown", 3, None, 1, 2, "connect_all"),
            ]
        );
    }

    #[test]
    fn by_origin_and_by_site() {
        let origins = rows(By::Origin);
        assert_eq!(origins[0], expected("socket", 10, Some(15), 1, 2, "connect_all"));
        assert_eq!(origins[1], expected("open", 3, Some(8), 1, 1, "leak"));
        let sites: Vec<_> = rows(By::Site).into_iter().map(|row| row.0).collect();
        assert_eq!(sites, ["b", "a"]);
    }

    #[test]
    fn by_holder() {
        assert_eq!(
            rows(By::Holder),
            [
                expected("descriptor", 8, None, 1, 2, "connect_all"),
                expected("unknown", 3, None, 1, 1, "leak"),
                expected("mapping", 2, None, 1, 2, "connect_all"),
            ]
        );
    }

    #[test]
    fn text() {
        let text = |by| written(|out| write_text(out, &table(&two_sites(), by), STYLE));
        assert_eq!(
            text(By::Process),
            "13 live handles at the end of a trace of 12s (kprobe backend, Linux 6.1.0)\n\
             \x20    LIVE ALLOCATED     SITES  PROCESS  MAX FROM\n\
             \x20       7         ?         2  app (7)  connect_all\n\
             \x20       6         ?         1  web (8)  connect_all\n\
             lost: nothing\n"
        );
        assert!(
            text(By::Kind).contains("\n     LIVE     SITES PROCESSES  KIND     MAX FROM\n"),
            "{}",
            text(By::Kind)
        );
        assert!(!text(By::Holder).contains("No holder is known"));
        let nobody_looked =
            written(|out| write_text(out, &table(&document(vec![site("a", 1)]), By::Holder), STYLE));
        assert!(nobody_looked.contains("\nNo holder is known"), "{nobody_looked}");
        let top = written(|out| write_text(out, &table(&two_sites(), By::Site), Style { top: 1, ..STYLE }));
        assert!(top.contains("\n          and 1 row more (--top)\n"), "{top}");
    }

    #[test]
    fn json_has_the_keys_that_others_read() {
        let text = written(|out| write_json(out, &table(&two_sites(), By::Process)));
        let json: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!((&json["schema"], &json["by"]), (&"fdtrace.report/1".into(), &"process".into()));
        let row = &json["rows"][0];
        assert_eq!((&row["key"], &row["pid"], &row["comm"]), (&"app (7)".into(), &7.into(), &"app".into()));
        assert_eq!((&row["live"], &row["sites"], &row["processes"]), (&7.into(), &2.into(), &1.into()));
        assert!(row["allocated"].is_null());
        let text = written(|out| write_json(out, &table(&two_sites(), By::Origin)));
        let json: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(json["rows"][0]["allocated"], 15);
        assert!(json["rows"][0].get("pid").is_none());
    }

    #[test]
    fn hostile_names_do_no_harm() {
        let mut document = two_sites();
        document.sites[1].processes[0].comm = "x\r\n\x1b]0;".to_owned();
        document.sites[1].user_stack[1].symbol = Some("f\x1b[2J\n".to_owned());
        let text = written(|out| write_text(out, &table(&document, By::Process), STYLE));
        assert!(!text.contains(|character: char| character.is_control() && character != '\n'), "{text:?}");
        assert_eq!(text.lines().count(), 6, "{text}");
    }
}
