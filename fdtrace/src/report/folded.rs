use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use crate::{
    analysis::shares,
    model::{Document, Site, UserFrame},
    stacks::{
        describe::{name, source},
        is_script, telling,
    },
    text::fmt::steers,
};

/// Which handles count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Those that are alive, and as old as was asked for.
    Live,
    /// All that were made.
    Allocated,
}

/// Marks a function of the kernel, as is the custom.
const KERNEL: &str = "_[k]";

/// Stands for a stack that is not known.
const NO_STACK: &str = "[no stack]";

/// Stands for a name that is not known.
const NAMELESS: &str = "[unknown]";

/// Writes folded stacks: one line for each site and process name, outermost frame first, and the number of handles.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, document: &Document, weight: Weight) -> io::Result<()> {
    for line in lines(document, weight) {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// The lines; a site that has no handles of this weight has none.
pub(super) fn lines(document: &Document, weight: Weight) -> Vec<String> {
    document.sites.iter().flat_map(|site| site_lines(site, weight)).collect()
}

fn site_lines(site: &Site, weight: Weight) -> Vec<String> {
    let frames = frames(site);
    let line = |(comm, handles): (String, u64)| format!("{};{frames} {handles}", one_word(&comm));
    by_comm(site, weight).into_iter().filter(|(_, handles)| *handles > 0).map(line).collect()
}

/// Handles by process name; those that cannot be distinguished by process bear all names.
fn by_comm(site: &Site, weight: Weight) -> BTreeMap<String, u64> {
    let mut comms: Vec<&str> = site.processes.iter().map(|process| process.comm.as_str()).collect();
    comms.sort_unstable();
    comms.dedup();
    let all = comms.join(",");
    let mut sums = BTreeMap::new();
    for share in shares(site) {
        let comm = share.process.map_or(&all, |process| &process.comm);
        *sums.entry(comm.clone()).or_default() += match weight {
            Weight::Live => share.live,
            Weight::Allocated => share.allocated,
        };
    }
    sums
}

fn frames(site: &Site) -> String {
    let user = telling(&site.user_stack).rev().map(|frame| one_word(&label(frame)));
    let kernel = site.kernel_stack.iter().rev().map(|frame| one_word(&frame.symbol) + KERNEL);
    let frames: Vec<String> = user.chain(kernel).collect();
    // A line that is a process name alone could be read as a comment.
    if frames.is_empty() { one_word(NO_STACK) } else { frames.join(";") }
}

/// A frame's function; of a script with its line, since `<module>` and `__init__` say nothing.
fn label(frame: &UserFrame) -> String {
    let name = name(frame);
    match source(frame).filter(|_| is_script(frame)) {
        Some(source) => format!("{name} ({source})"),
        None => name,
    }
}

/// Names come from other processes: in a line they may be neither a separator nor an end. The substitutes for `;` and
/// the space are those of the scripts that made this format.
fn one_word(name: &str) -> String {
    let name = if name.is_empty() { NAMELESS } else { name };
    name.chars().fold(String::with_capacity(name.len()), |mut word, character| {
        match character {
            ';' => word.push(':'),
            ' ' => word.push('_'),
            other if breaks_a_line(other) => word.extend(other.escape_unicode()),
            other => word.push(other),
        }
        word
    })
}

/// What ends a line somewhere, steers a terminal, or may not be in XML.
fn breaks_a_line(character: char) -> bool {
    character.is_whitespace() || steers(character)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::*;

    fn folded(site: Site, weight: Weight) -> String {
        written(|out| write(out, &document(vec![site]), weight))
    }

    #[test]
    fn outermost_first_and_the_kernel_last() {
        let stack = "app;main;leak;open64;path_openat_[k];alloc_empty_file_[k]";
        assert_eq!(folded(site("a", 3), Weight::Live), format!("{stack} 3\n"));
        assert_eq!(folded(site("a", 3), Weight::Allocated), format!("{stack} 8\n"));
    }

    #[test]
    fn a_site_without_live_handles_counts_by_what_it_made() {
        assert_eq!(folded(site("a", 0), Weight::Live), "");
        assert!(folded(site("a", 0), Weight::Allocated).ends_with(" 5\n"));
    }

    #[test]
    fn handles_as_old_as_was_asked_for() {
        assert!(folded(Site { aged: 2, ..site("a", 3) }, Weight::Live).ends_with(" 2\n"));
    }

    #[test]
    fn one_line_for_each_name() {
        let three = vec![process(7, "a", 4), process(8, "b", 2), process(9, "a", 1)];
        let short = Site { user_stack: Vec::new(), kernel_stack: kernel(&["k"]), ..site("a", 7) };
        let site = Site { processes: three, ..short };
        assert_eq!(folded(site.clone(), Weight::Live), "a;k_[k] 5\nb;k_[k] 2\n");
        assert_eq!(folded(site, Weight::Allocated), "a,b;k_[k] 12\n");
    }

    #[test]
    fn what_is_not_known() {
        let nameless = UserFrame { symbol: None, ..frame("", "/opt/my app", 0x2a) };
        let lost = UserFrame { symbol: None, module: None, ..frame("", "", 0x7f00) };
        let stripped = Site { user_stack: vec![nameless, lost], ..site("a", 1) };
        assert!(folded(stripped, Weight::Live).starts_with("app;0x7f00;my_app+0x2a;path_openat_[k];"));
        let bare =
            Site { user_stack: Vec::new(), kernel_stack: Vec::new(), processes: Vec::new(), ..site("a", 1) };
        assert_eq!(folded(bare, Weight::Live), "[unknown];[no_stack] 1\n");
    }

    #[test]
    fn inlined_functions_are_frames() {
        let mut site = Site { kernel_stack: Vec::new(), ..site("a", 1) };
        site.user_stack[1].inlined = true;
        assert_eq!(folded(site, Weight::Live), "app;main;leak;open64 1\n");
    }

    #[test]
    fn scripts_have_lines_and_no_interpreter() {
        let mut site = Site { kernel_stack: Vec::new(), ..site("a", 1) };
        site.user_stack = vec![
            frame("open64", "/usr/lib/libc.so.6", 1),
            frame("_io_open", "/usr/bin/python3.11", 1),
            script("Pool.get", "/srv/a;b/\n.py", 12),
            script("<module>", "main.py", 3),
            frame("Py_RunMain", "/usr/bin/python3.11", 1),
        ];
        let stack = "app;<module>_(main.py:3);Pool.get_(a:b/\\u{a}.py:12);open64 1\n";
        assert_eq!(folded(site, Weight::Live), stack);
    }

    #[test]
    fn hostile_names_stay_in_their_line() {
        let mut hostile = Site { kernel_stack: kernel(&["k;\n9"]), ..site("a", 2) };
        hostile.processes[0].comm = "# a;b 5\n\x1b[2J".to_owned();
        hostile.user_stack =
            vec![frame("<T as [u8; 8]>::f 7", "/a", 1), frame("\u{2028}\u{85}\r\u{202e}", "/a", 1)];
        assert_eq!(
            folded(hostile, Weight::Live),
            "#_a:b_5\\u{a}\\u{1b}[2J;\\u{2028}\\u{85}\\u{d}\\u{202e};<T_as_[u8:_8]>::f_7;k:\\u{a}9_[k] 2\n"
        );
    }
}
