//! A handle, its references, and a sentence.

use std::io::{self, Write};

use crate::{
    model::explain::{
        Document as Whole, SharerLine,
        handle::{Document, HandleLine, HolderLine, ReferenceLine},
    },
    report::{
        Style,
        explain::{
            Screen, peers,
            who::{Lot, Register, listed},
        },
    },
    text::{
        Terminal, fit,
        fmt::{counted, escape_control, number, process},
    },
};

/// Handles that are shown, and references and processes of each, unless more is asked for.
const HANDLES: usize = 5;
const ROWS: usize = 12;
/// Functions of a kernel stack.
const FRAMES: usize = 4;

/// Writes what keeps handles alive.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, document: &Document, style: Style, screen: Screen) -> io::Result<()> {
    let out = &mut Terminal::new(out, style.color);
    let mut text = Vec::new();
    let most = |few: usize| if style.verbose { usize::MAX } else { few };
    for handle in document.handles.iter().take(most(HANDLES)) {
        write_handle(&mut text, handle, most(ROWS))?;
        writeln!(text)?;
    }
    let rest = document.handles.len().saturating_sub(most(HANDLES)) as u64 + document.left_out;
    if rest > 0 {
        writeln!(text, "{} more of this name (-v, --json)\n", counted(rest, "handle"))?;
    }
    for sentence in &document.partial {
        writeln!(text, "! {}", escape_control(sentence))?;
    }
    if let Some(last) = sentence(document) {
        writeln!(text, "{}", crate::report::text::paint(style, "1", &last))?;
    }
    write!(out, "{}", fit(&String::from_utf8_lossy(&text), screen.width))?;
    out.flush()
}

fn write_handle(out: &mut impl Write, handle: &HandleLine, most: usize) -> io::Result<()> {
    let open =
        if handle.access.is_empty() { String::new() } else { format!(", opened to {}", handle.access) };
    let deleted = if handle.deleted { ", deleted" } else { "" };
    let (name, address) = (escape_control(&handle.name), &handle.address);
    writeln!(out, "{name}: {}{open}{deleted}; {address}, inode {}", handle.kind, handle.inode)?;
    if let Some(opener) = &handle.opened_by {
        writeln!(out, "allocated with the credentials of {}", process(&opener.comm, opener.pid))?;
    }
    for site in &handle.sites {
        let pids: Vec<String> = site.pids.iter().map(u32::to_string).collect();
        let (stack, id) = (escape_control(&site.stack), escape_control(&site.id));
        writeln!(out, "allocated by process {} in {stack} (site {id})", pids.join(", "))?;
    }
    if handle.older > 0 {
        writeln!(out, "it is pre-existing")?;
    }
    writeln!(out, "{}", counts(handle))?;
    for reference in handle.references.iter().take(most) {
        writeln!(out, "  {}", reference_row(handle, reference))?;
    }
    more(out, handle.references.len(), most)?;
    if !handle.processes.is_empty() {
        writeln!(out, "what they do now:")?;
    }
    for holder in handle.processes.iter().take(most) {
        writeln!(out, "  {}", holder_row(holder))?;
    }
    more(out, handle.processes.len(), most)?;
    write_peers(out, handle)
}

fn more(out: &mut impl Write, count: usize, most: usize) -> io::Result<()> {
    match count.saturating_sub(most) {
        0 => Ok(()),
        rest => writeln!(out, "  and {} more (-v)", number(rest as u64)),
    }
}

fn write_peers(out: &mut impl Write, handle: &HandleLine) -> io::Result<()> {
    let files = crate::model::explain::Files { peer: handle.peer.clone(), ..Default::default() };
    let nobody = Whole::default();
    for line in peers::lines(&Register::of(&nobody), 0, &files) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The kernel's count beside what was found.
fn counts(handle: &HandleLine) -> String {
    let found = counted(handle.found, "reference");
    let calls = match handle.calls {
        0 => String::new(),
        calls => format!(" and {} in progress", counted(calls, "system call")),
    };
    match handle.count {
        None => format!("{found}{calls}; it is gone by now, or the kernel's count cannot be read"),
        Some(count) => format!("the kernel counts {}; found: {found}{calls}", number(count)),
    }
}

fn reference_row(handle: &HandleLine, reference: &ReferenceLine) -> String {
    let names: Vec<String> = reference.pids.iter().take(3).map(|pid| name(handle, *pid)).collect();
    let rest = reference.pids.len().saturating_sub(3);
    let mut who = names.join(", ");
    if rest > 0 {
        who += &format!(" and {} more that share it", number(rest as u64));
    }
    let place = match reference {
        ReferenceLine { fd: Some(fd), close_on_exec, .. } => {
            let kept = if *close_on_exec == Some(false) { ", kept over exec" } else { "" };
            format!("fd {fd}{kept}")
        }
        ReferenceLine { range: Some([start, end]), .. } => format!("{start}-{end}"),
        ReferenceLine { shmid: Some(shmid), .. } => format!("segment {shmid}"),
        ReferenceLine { through: Some(through), .. } => format!("through {through}"),
        _ => String::new(),
    };
    format!("{:<11} {who:<24} {place}", reference.holder).trim_end().to_owned()
}

fn name(handle: &HandleLine, pid: u32) -> String {
    let holder = handle.processes.iter().find(|holder| holder.pid == pid);
    process(holder.map_or("", |holder| &holder.comm), pid)
}

fn holder_row(holder: &HolderLine) -> String {
    let thread = if holder.tid == holder.pid || holder.tid == 0 {
        String::new()
    } else {
        format!(", thread {}", holder.tid)
    };
    let what = match (&holder.call, holder.on_it) {
        _ if holder.state.is_empty() => "gone".to_owned(),
        (Some(call), true) => format!("{} in {call} on it", holder.state),
        (Some(call), false) => format!("{} in {call}", holder.state),
        (None, _) => holder.state.clone(),
    };
    let kernel = match holder.kernel_stack.as_slice() {
        [] => escape_control(&holder.waits_in),
        stack => stack
            .iter()
            .filter(|frame| !is_entry(frame))
            .take(FRAMES)
            .map(|frame| escape_control(frame))
            .collect::<Vec<_>>()
            .join(" < "),
    };
    let kernel = if kernel.is_empty() { kernel } else { format!(": {kernel}") };
    format!("{}{thread}: {what}{kernel}", process(&holder.comm, holder.pid))
}

/// Whether a function is on the way of each system call.
fn is_entry(function: &str) -> bool {
    ["do_syscall_64", "entry_SYSCALL_64", "__x64_sys_", "el0", "__arm64_sys_", "invoke_syscall"]
        .iter()
        .any(|entry| function.starts_with(entry))
}

/// Who has to let it go, and who waits.
fn sentence(document: &Document) -> Option<String> {
    let (first, others) = document.handles.split_first()?;
    let mut sentences = vec![kept_words(document, first, others)];
    if others.is_empty() {
        sentences.extend(waiting_words(first));
        sentences.extend(missing_words(first));
    }
    Some(sentences.join(" "))
}

fn kept_words(document: &Document, first: &HandleLine, others: &[HandleLine]) -> String {
    let all = || std::iter::once(first).chain(others);
    let mut sums: Vec<SharerLine> = Vec::new();
    for handle in all() {
        for pid in handle.references.iter().flat_map(|reference| &reference.pids) {
            match sums.iter_mut().find(|sum| sum.pid == *pid) {
                Some(sum) => sum.count += 1,
                None => {
                    let known = handle.processes.iter().find(|holder| holder.pid == *pid);
                    let comm = known.map_or_else(String::new, |holder| holder.comm.clone());
                    sums.push(SharerLine { pid: *pid, comm, count: 1 });
                }
            }
        }
    }
    let references: u64 = all().map(|handle| handle.found).sum();
    let count = document.handles.len() as u64 + document.left_out;
    let what = if count == 1 { "It is".to_owned() } else { format!("{} handles are", number(count)) };
    if references == 0 {
        return format!("{what} held by nothing that was looked at.");
    }
    let nobody = Whole::default();
    let holders = Register::of(&nobody).holders(&[Lot { count: references, processes: &sums }]);
    let hidden = if first.hidden && others.is_empty() { ", and no descriptor points to it" } else { "" };
    let who = if sums.is_empty() { String::new() } else { format!(" of {}", holders.words()) };
    format!("{what} alive by {}{who}{hidden}.", counted(references, "reference"))
}

/// Who is in a system call on it, and who could end that.
fn waiting_words(handle: &HandleLine) -> Option<String> {
    let waiting: Vec<&HolderLine> =
        handle.processes.iter().filter(|holder| holder.on_it && holder.state != "R").collect();
    let [first, ..] = waiting.as_slice() else { return None };
    let names: Vec<String> = waiting.iter().take(3).map(|holder| process(&holder.comm, holder.pid)).collect();
    let call = first.call.as_deref().unwrap_or_default();
    let waits = if waiting.len() == 1 { "waits" } else { "wait" };
    let files = crate::model::explain::Files { peer: handle.peer.clone(), ..Default::default() };
    let nobody = Whole::default();
    let ends = peers::lines(&Register::of(&nobody), 0, &files);
    let until = if ends.is_empty() { String::new() } else { format!("; {}", ends.join("; ")) };
    Some(format!("{} {waits} in {call} on it{until}.", listed(&names)))
}

/// References that the kernel counts and nobody was seen to have.
fn missing_words(handle: &HandleLine) -> Option<String> {
    let missing = handle.count?.checked_sub(handle.found + handle.calls).filter(|missing| *missing > 0)?;
    let them = if missing == 1 { "it is" } else { "they are" };
    Some(format!(
        "{} more {} found at nobody: {them} the kernel's own (a request in flight, a loop device, a BPF object), or those \
         of system calls in progress.",
        counted(missing, "reference"),
        if missing == 1 { "was" } else { "were" }
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::explain::PeerLine;

    fn holder(pid: u32, comm: &str) -> HolderLine {
        HolderLine {
            pid,
            comm: comm.to_owned(),
            tid: pid,
            state: "S".to_owned(),
            call: Some("futex".to_owned()),
            ..HolderLine::default()
        }
    }

    fn pipe() -> HandleLine {
        let reference = |pid, fd| ReferenceLine {
            holder: "descriptor".to_owned(),
            fd: Some(fd),
            close_on_exec: Some(pid == 7),
            pids: vec![pid],
            ..ReferenceLine::default()
        };
        let reader = HolderLine {
            call: Some("read".to_owned()),
            on_it: true,
            kernel_stack: ["pipe_read", "vfs_read"].map(str::to_owned).to_vec(),
            ..holder(7, "parent")
        };
        HandleLine {
            address: "0xffff888000000100".to_owned(),
            kind: "fifo".to_owned(),
            name: "pipe:[131]".to_owned(),
            inode: 131,
            access: "read".to_owned(),
            count: Some(3),
            found: 2,
            references: vec![reference(7, 4), reference(8, 9)],
            processes: vec![reader, holder(8, "child")],
            peer: vec![PeerLine {
                end: "write".to_owned(),
                count: 1,
                elsewhere: 1,
                processes: vec![SharerLine { pid: 8, comm: "child".to_owned(), count: 1 }],
                ..PeerLine::default()
            }],
            ..HandleLine::default()
        }
    }

    fn text(handles: Vec<HandleLine>) -> String {
        let document = Document { handles, ..Document::default() };
        let style = Style { color: false, verbose: false, finished: false, top: 10 };
        let mut out = Vec::new();
        write(&mut out, &document, style, Screen { unicode: false, width: 100 }).expect("a text");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_read_that_never_ends() {
        assert_eq!(
            text(vec![pipe()]),
            "\
pipe:[131]: fifo, opened to read; 0xffff888000000100, inode 131
the kernel counts 3; found: 2 references
  descriptor  parent (7)               fd 4
  descriptor  child (8)                fd 9, kept over exec
what they do now:
  parent (7): S in read on it: pipe_read < vfs_read
  child (8): S in futex
write end: child (8)

It is alive by 2 references of parent (7) 1 and child (8) 1. parent (7) waits in read on it; write
end: child (8). 1 reference more was found at nobody: it is the kernel's own (a request in flight, a
loop device, a BPF object), or those of system calls in progress.
"
        );
    }

    #[test]
    fn names_do_no_harm_and_it_fits() {
        let hostile = HandleLine {
            name: "x\x1b[2J\n".repeat(50),
            processes: (0..50).map(|pid| holder(pid, "\x1b[2J")).collect(),
            ..pipe()
        };
        let text = text(vec![hostile; 9]);
        assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(text.contains("4 handles more of this name"), "{text}");
    }
}
