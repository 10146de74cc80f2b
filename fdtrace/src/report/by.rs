//! A document summed up by something else than the call site.

use std::io::{self, Write};

use super::{
    Style,
    text::{headline, losses, paint},
};
use crate::{
    model::groups::{By, Row, Table, UNKNOWN},
    text::{
        Terminal,
        fmt::{at_least, counted, escape_control, number},
    },
};

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
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        analysis::table,
        model::{Document, Holder, Kind, Origin, Site, fixture::*},
        report::write_json,
    };

    const STYLE: Style = Style { color: false, top: 10, verbose: false, finished: true };

    fn two_sites() -> Document {
        let mut other = Site { origin: Origin::Socket, ..site("b", 10) };
        other.kinds = BTreeMap::from([(Kind::Socket, 6), (Kind::Regular, 1)]);
        other.holders = BTreeMap::from([(Holder::Descriptor, 8), (Holder::Mapping, 2)]);
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
        assert_eq!((&json["schema"], &json["by"]), (&"fdtrace.report-by/1".into(), &"process".into()));
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
