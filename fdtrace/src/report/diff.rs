//! Two documents compared: what lives at the end of the second trace and did not in the first.

use std::io::{self, Write};

use super::{
    Style, stack,
    text::{at_the_end, paint, processes},
};
use crate::{
    model::diff::{Difference, MatchedBy, SiteDifference},
    stacks::place,
    text::{
        Terminal,
        fmt::{change, counted, escape_control, number},
    },
};

/// Writes a difference as text: what grew most comes first, and is named once more at the end.
///
/// # Errors
/// When the output cannot be written.
pub fn write_text(out: &mut impl Write, difference: &Difference, style: Style) -> io::Result<()> {
    let out = &mut Terminal::new(out, style.color);
    for (word, side) in [("before:", &difference.before), ("after: ", &difference.after)] {
        writeln!(
            out,
            "{}",
            paint(style, "1", &format!("{word} {}", at_the_end(&side.trace, &side.handles)))
        )?;
    }
    let changed: Vec<&SiteDifference> = difference.sites.iter().filter(|site| site.change != 0).collect();
    if !changed.is_empty() {
        writeln!(
            out,
            "{:>9} {:>9} {:>9}  {:<7} {:<11} PROCESS",
            "CHANGE", "BEFORE", "AFTER", "SITE", "ORIGIN"
        )?;
    }
    for site in changed.iter().take(style.top) {
        write_site(out, site, style)?;
    }
    write_rest(out, difference, changed.len(), style)?;
    write_incomplete_reasons(out, difference)?;
    writeln!(out, "{}", last_line(difference, style))?;
    out.flush()
}

fn write_site(out: &mut impl Write, site: &SiteDifference, style: Style) -> io::Result<()> {
    let line = format!(
        "{:>9} {:>9} {:>9}  {:<7} {:<11} {}",
        change(site.change),
        number(site.before),
        number(site.after),
        state(site),
        site.origin,
        processes(&site.processes)
    );
    writeln!(out, "{}", if site.change > 0 { paint(style, "31", &line) } else { line })?;
    stack::write_below_row(out, &site.user_stack, &site.kernel_stack, site.user_stack_complete, style)?;
    if site.merged > 1 {
        writeln!(out, "          {} of these names in one row", counted(site.merged, "site"))?;
    }
    Ok(())
}

fn state(site: &SiteDifference) -> &'static str {
    match (site.matched_by, site.before, site.after) {
        (Some(MatchedBy::Functions), ..) => "rebuilt",
        (Some(_), ..) => "",
        (None, 0, _) => "new",
        (None, ..) => "gone",
    }
}

fn write_rest(out: &mut impl Write, difference: &Difference, changed: usize, style: Style) -> io::Result<()> {
    let hidden = changed.saturating_sub(style.top);
    if hidden > 0 {
        writeln!(out, "          and {} more that changed (--top)", counted(hidden as u64, "site"))?;
    }
    let same = difference.sites.len() - changed;
    if same > 0 {
        writeln!(out, "{} with as many live handles as before", counted(same as u64, "site"))?;
    }
    if difference.sites.iter().any(|site| site.matched_by == Some(MatchedBy::Functions)) {
        writeln!(out, "rebuilt: other code in the second trace, matched by the names of its functions")?;
    }
    Ok(())
}

fn write_incomplete_reasons(out: &mut impl Write, difference: &Difference) -> io::Result<()> {
    for (word, side) in [("first", &difference.before), ("second", &difference.after)] {
        if !side.trace.complete {
            let reasons = side.trace.incomplete.iter().map(|reason| escape_control(reason));
            let reasons = reasons.collect::<Vec<_>>().join(", ");
            writeln!(out, "The {word} trace is NOT COMPLETE: {reasons}. A change may come from that alone.")?;
        }
    }
    Ok(())
}

fn last_line(difference: &Difference, style: Style) -> String {
    let Some(most) = difference.sites.first().filter(|site| site.change > 0) else {
        return "Nothing grew: no call site has more live handles than before.".to_owned();
    };
    let by = most.processes.first().map_or_else(String::new, |process| escape_control(&process.comm) + ", ");
    let text = format!(
        "What grew most: {by}{}, {} live handles more ({} before, {} after).",
        escape_control(&place(&most.user_stack, &most.kernel_stack)),
        number(most.change.unsigned_abs()),
        number(most.before),
        number(most.after)
    );
    paint(style, "1;31", &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analysis::diff,
        model::{Site, fixture::*},
        report::write_json,
    };

    const ID: MatchedBy = MatchedBy::Id;
    const FUNCTIONS: MatchedBy = MatchedBy::Functions;
    const STYLE: Style = Style { color: false, top: 10, verbose: false, finished: true };

    fn rows<'a>(difference: &'a Difference) -> Vec<(&'a str, Option<MatchedBy>, u64, u64, i64)> {
        let row = |site: &'a SiteDifference| {
            (site.id.as_str(), site.matched_by, site.before, site.after, site.change)
        };
        difference.sites.iter().map(row).collect()
    }

    fn moved(mut site: Site, by: u64) -> Site {
        for frame in &mut site.user_stack {
            frame.offset += by;
        }
        site
    }

    fn named(mut site: Site, function: &str) -> Site {
        site.user_stack[1].symbol = Some(function.to_owned());
        site
    }

    #[test]
    fn the_leak_comes_first() {
        let before = document(vec![
            named(site("same", 4), "same"),
            named(site("less", 9), "less"),
            named(site("leak", 10), "leak"),
            named(site("gone", 3), "gone"),
        ]);
        let after = document(vec![
            named(site("new", 7), "new"),
            named(site("same", 4), "same"),
            named(site("less", 1), "less"),
            named(site("leak", 1000), "leak"),
        ]);
        let difference = diff(&before, &after);
        assert_eq!(
            rows(&difference),
            [
                ("leak", Some(ID), 10, 1000, 990),
                ("new", None, 0, 7, 7),
                ("less", Some(ID), 9, 1, -8),
                ("gone", None, 3, 0, -3),
                ("same", Some(ID), 4, 4, 0),
            ]
        );
        let text = written(|out| write_text(out, &difference, STYLE));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "before: 26 live handles at the end of a trace of 12s (kprobe backend, Linux 6.1.0)"
        );
        assert_eq!(lines[3], "     +990        10     1,000          open        app (7)");
        assert_eq!(
            lines[4..7].concat(),
            "          open64  libc.so.6        > leak    app          main    app"
        );
        assert!(lines[7].contains(" new "), "{text}");
        assert_eq!(
            lines[lines.len() - 1],
            "What grew most: app, leak, 990 live handles more (10 before, 1,000 after)."
        );
        assert!(text.contains("\n1 site with as many live handles as before\n"), "{text}");
    }

    #[test]
    fn a_rebuilt_program_is_matched_by_its_functions() {
        // Two sites of the same functions, which differ by their offsets only.
        let before = document(vec![moved(site("a2", 50), 0x40), site("a1", 10)]);
        let after = document(vec![moved(site("b2", 51), 0x1040), moved(site("b1", 10), 0x1000)]);
        let difference = diff(&before, &after);
        assert_eq!(
            rows(&difference),
            [("b2", Some(FUNCTIONS), 50, 51, 1), ("b1", Some(FUNCTIONS), 10, 10, 0)]
        );
        assert!(written(|out| write_text(out, &difference, STYLE)).contains("  rebuilt "));
    }

    #[test]
    fn a_script_that_was_changed_is_matched_by_its_functions_in_the_order_of_its_lines() {
        let of = |id: &str, live, line| {
            let user_stack = vec![frame("open64", "/libc.so.6", 1), script("load", "/app/db.py", line)];
            Site { user_stack, ..site(id, live) }
        };
        let before = document(vec![of("a2", 50, 20), of("a1", 10, 9)]);
        let difference = diff(&before, &document(vec![of("b1", 10, 12), of("b2", 51, 23)]));
        assert_eq!(
            rows(&difference),
            [("b2", Some(FUNCTIONS), 50, 51, 1), ("b1", Some(FUNCTIONS), 10, 10, 0)]
        );
        let text = written(|out| write_text(out, &difference, STYLE));
        assert!(text.contains("What grew most: app, load at app/db.py:23, 1 live "), "{text}");
    }

    #[test]
    fn namesakes_whose_number_changed_are_one_row() {
        let before = document(vec![moved(site("a2", 50), 0x40), site("a1", 10)]);
        let new = [("b1", 10, 0), ("b2", 51, 8), ("b3", 4, 16)];
        let after = new.map(|(id, live, by)| moved(site(id, live), 0x1000 + by)).to_vec();
        let difference = diff(&before, &document(after));
        assert_eq!(rows(&difference), [("b2", Some(FUNCTIONS), 60, 65, 5)]);
        assert_eq!(difference.sites[0].merged, 3);
        let text = written(|out| write_text(out, &difference, STYLE));
        assert!(text.contains("          3 sites of these names in one row\n"), "{text}");
    }

    #[test]
    fn inlined_in_one_build_and_not_in_the_other() {
        let before = document(vec![site("a", 10)]);
        let mut rebuilt = moved(named(site("b", 30), "leak.isra.0"), 0x1000);
        rebuilt.user_stack[1].inlined = true;
        rebuilt.user_stack.iter_mut().for_each(|frame| frame.build_id = Some("ff".to_owned()));
        let difference = diff(&before, &document(vec![rebuilt]));
        assert_eq!(rows(&difference), [("b", Some(FUNCTIONS), 10, 30, 20)]);
        assert!(difference.sites[0].name_id.is_some());
    }

    #[test]
    fn an_id_goes_before_functions() {
        let before = document(vec![site("a", 10), moved(site("b", 20), 8)]);
        let after = document(vec![moved(site("b", 20), 8), moved(site("c", 11), 16)]);
        assert_eq!(
            rows(&diff(&before, &after)),
            [("c", Some(FUNCTIONS), 10, 11, 1), ("b", Some(ID), 20, 20, 0)]
        );
    }

    #[test]
    fn nameless_code_matches_by_its_offset_only() {
        let stripped = |mut site: Site| {
            site.user_stack.iter_mut().for_each(|frame| frame.symbol = None);
            site
        };
        let before = document(vec![stripped(site("a", 10))]);
        let other = document(vec![stripped(moved(site("b", 10), 8))]);
        assert_eq!(rows(&diff(&before, &other)), [("b", None, 0, 10, 10), ("a", None, 10, 0, -10)]);
        let same = document(vec![stripped(site("b", 10))]);
        assert_eq!(rows(&diff(&before, &same)), [("b", Some(FUNCTIONS), 10, 10, 0)]);
    }

    #[test]
    fn sites_without_any_stack_are_not_lost() {
        let bare =
            |id: &str, live| Site { user_stack: Vec::new(), kernel_stack: Vec::new(), ..site(id, live) };
        let difference = diff(&document(vec![bare("a", 2)]), &document(vec![bare("b", 3)]));
        assert_eq!(rows(&difference), [("b", None, 0, 3, 3), ("a", None, 2, 0, -2)]);
    }

    #[test]
    fn nothing_grew() {
        let difference = diff(&document(vec![site("a", 2)]), &document(vec![site("a", 2)]));
        let text = written(|out| write_text(out, &difference, STYLE));
        assert!(
            text.ends_with("\nNothing grew: no call site has more live handles than before.\n"),
            "{text}"
        );
        let empty = diff(&document(Vec::new()), &document(Vec::new()));
        assert!(written(|out| write_text(out, &empty, STYLE)).ends_with("than before.\n"));
    }

    #[test]
    fn incomplete_reasons_are_shown() {
        let mut after = document(vec![site("a", 9)]);
        after.trace.complete = false;
        after.trace.incomplete = vec!["records could not be read".to_owned()];
        let text = written(|out| write_text(out, &diff(&document(Vec::new()), &after), STYLE));
        assert!(text.contains("The second trace is NOT COMPLETE: records could not be read."), "{text}");
        assert!(!text.contains("first trace"), "{text}");
    }

    #[test]
    fn hostile_names_do_no_harm() {
        let mut hostile = named(site("a", 9), "f\x1b[2J\n");
        hostile.processes[0].comm = "x\r\x1b]0;".to_owned();
        let difference = diff(&document(Vec::new()), &document(vec![hostile]));
        let text = written(|out| write_text(out, &difference, STYLE));
        assert!(!text.contains(|character: char| character.is_control() && character != '\n'), "{text:?}");
        assert_eq!(text.lines().count(), 8, "{text}");
    }

    #[test]
    fn json_has_the_keys_that_others_read() {
        let difference = diff(&document(vec![site("a", 2)]), &document(vec![site("a", 5)]));
        let json: serde_json::Value =
            serde_json::from_str(&written(|out| write_json(out, &difference))).expect("it is JSON");
        assert_eq!(json["schema"], "fdtrace.diff/1");
        assert_eq!(json["before"]["backend"], "kprobe");
        assert_eq!(json["after"]["complete"], true);
        assert_eq!(json["after"]["handles"]["live"], 5);
        let site = &json["sites"][0];
        assert_eq!((&site["before"], &site["after"], &site["change"]), (&2.into(), &5.into(), &3.into()));
        assert_eq!((&site["matched_by"], &site["origin"]), (&"id".into(), &"open".into()));
        assert_eq!(site["processes"][0]["pid"], 7);
        assert_eq!(site["user_stack"][1]["symbol"], "leak");
    }
}
