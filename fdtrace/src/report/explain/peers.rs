//! Who is at the other ends of pipes, sockets and pseudo terminals, in words.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use super::who::{Lot, Register, listed};
use crate::{
    model::explain::{Document, Files, PeerLine, ProcessLine, SharerLine},
    text::fmt::{counted, number, process},
};

/// So many other ends elsewhere are reported, or one of so many handles.
const FEW: u64 = 100;
const PART: u64 = 4;
/// Fewer are never told of.
const FEWEST: u64 = 4;

/// Ends of several groups, those of a sort together.
pub(super) fn together<'a>(files: impl Iterator<Item = &'a Files>) -> Vec<PeerLine> {
    let mut ends: BTreeMap<&str, PeerLine> = BTreeMap::new();
    let mut sums: HashMap<(&str, u32), SharerLine> = HashMap::new();
    for peer in files.flat_map(|files| &files.peer) {
        let sum = ends
            .entry(&peer.end)
            .or_insert_with(|| PeerLine { end: peer.end.clone(), ..PeerLine::default() });
        sum.count += peer.count;
        sum.closed += peer.closed;
        sum.elsewhere += peer.elsewhere;
        sum.left_out = sum.left_out.max(peer.left_out);
        for process in &peer.processes {
            let sum = sums.entry((&peer.end, process.pid));
            sum.or_insert_with(|| SharerLine { count: 0, ..process.clone() }).count += process.count;
        }
    }
    for ((end, _), process) in sums {
        if let Some(peer) = ends.get_mut(end) {
            peer.processes.push(process);
        }
    }
    let mut ends: Vec<PeerLine> = ends.into_values().collect();
    for peer in &mut ends {
        peer.processes.sort_by_key(|process| (Reverse(process.count), process.pid));
    }
    ends
}

/// A line for each sort of other end that the files of a process have.
pub(super) fn lines(register: &Register<'_>, own: u32, files: &Files) -> Vec<String> {
    let is_alone = |peer: &PeerLine| {
        peer.end != "listener" && peer.closed == 0 && peer.processes.iter().all(|one| one.pid == own)
    };
    if !files.peer.is_empty() && files.peer.iter().all(is_alone) {
        return vec!["other end: itself".to_owned()];
    }
    files.peer.iter().map(|peer| format!("{}: {}", end(&peer.end), holders(register, own, peer))).collect()
}

fn end(end: &str) -> &str {
    match end {
        "write" => "write end",
        "read" => "read end",
        "listener" => "not accepted yet",
        "master" | "slave" => end,
        _ => "other end",
    }
}

/// `201 processes called sleep, such as ...; itself 3; nobody 12`
fn holders(register: &Register<'_>, own: u32, peer: &PeerLine) -> String {
    let (itself, others): (Vec<&SharerLine>, Vec<&SharerLine>) =
        peer.processes.iter().partition(|process| process.pid == own);
    let others: Vec<SharerLine> = others.into_iter().cloned().collect();
    let mut words = Vec::new();
    if !others.is_empty() {
        words.push(register.holders(&[Lot { count: peer.elsewhere, processes: &others }]).words());
    }
    let part = |count: u64| if count == peer.count { String::new() } else { format!(" {}", number(count)) };
    words.extend(itself.first().map(|itself| format!("itself{}", part(itself.count))));
    if peer.closed > 0 {
        words.push(format!("nobody any more{}", part(peer.closed)));
    }
    words.join("; ")
}

/// Where most of a process's other ends are, if that is all that was asked for.
pub(super) fn sentence(document: &Document) -> Option<String> {
    let [line] = document.processes.as_slice() else { return None };
    let ends = together(line.files.iter());
    let elsewhere: u64 = ends.iter().map(|peer| peer.elsewhere).sum();
    let closed: u64 = ends.iter().map(|peer| peer.closed).sum();
    let counts = |count: u64| count >= FEWEST && (count >= FEW || count * PART >= line.handles);
    let mut sentences = Vec::new();
    if counts(elsewhere) {
        sentences.push(elsewhere_words(document, line, &ends, elsewhere));
    }
    if counts(closed) {
        sentences.push(format!(
            "{} of {} lead nowhere: their other ends are closed, and only {} keeps them.",
            number(closed),
            counted(line.handles, "handle"),
            process(&line.comm, line.pid)
        ));
    }
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn elsewhere_words(document: &Document, line: &ProcessLine, ends: &[PeerLine], elsewhere: u64) -> String {
    let others = |peer: &PeerLine| {
        let others = peer.processes.iter().filter(|process| process.pid != line.pid);
        (peer.elsewhere, others.cloned().collect::<Vec<SharerLine>>())
    };
    let parts: Vec<(u64, Vec<SharerLine>)> = ends.iter().map(others).collect();
    let lots: Vec<Lot<'_>> =
        parts.iter().map(|(count, processes)| Lot { count: *count, processes }).collect();
    let names: Vec<String> = ends.iter().filter(|peer| peer.elsewhere > 0).map(part).collect();
    format!(
        "The other ends of {} of the {} of {} are held by {} ({}).",
        number(elsewhere),
        counted(line.handles, "handle"),
        process(&line.comm, line.pid),
        Register::of(document).holders(&lots).words(),
        listed(&names)
    )
}

fn part(peer: &PeerLine) -> String {
    let count = number(peer.elsewhere);
    let many = if peer.elsewhere == 1 { "" } else { "s" };
    match peer.end.as_str() {
        "write" => format!("{count} write end{many}: a read does not end while its write end is open"),
        "read" => format!("{count} read end{many}"),
        "listener" => format!("{count} not accepted yet"),
        "master" | "slave" => format!("{count} {}{many}", peer.end),
        _ => format!("{count} socket{many}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sharer(pid: u32, comm: &str, count: u64) -> SharerLine {
        SharerLine { pid, comm: comm.to_owned(), count }
    }

    fn peer(end: &str, count: u64, closed: u64, processes: &[SharerLine]) -> PeerLine {
        let elsewhere =
            processes.iter().filter(|process| process.pid != 7).map(|process| process.count).sum();
        PeerLine { end: end.to_owned(), count, closed, elsewhere, processes: processes.to_vec(), left_out: 0 }
    }

    fn pipes(number: u32) -> Vec<Files> {
        let pipe = |child: u32| Files {
            kind: "fifo".to_owned(),
            name: format!("pipe:[{child}]"),
            count: 1,
            peer: vec![peer("write", 1, 0, &[sharer(child, "sleep", 1)])],
            ..Files::default()
        };
        (100..100 + number).map(pipe).collect()
    }

    fn document(files: Vec<Files>) -> Document {
        let handles = files.iter().map(|files| files.count).sum();
        let line = ProcessLine { pid: 7, comm: "app".to_owned(), handles, files, ..ProcessLine::default() };
        Document { processes: vec![line], ..Document::default() }
    }

    #[test]
    fn children_that_never_end() {
        let text = sentence(&document(pipes(201))).expect("a sentence");
        assert_eq!(
            text,
            "The other ends of 201 of the 201 handles of app (7) are held by 201 processes called sleep, such as sleep (100) 1 \
             (201 write ends: a read does not end while its write end is open)."
        );
        assert_eq!(sentence(&document(pipes(3))), None);
    }

    #[test]
    fn ends_in_a_row() {
        let both = Files {
            peer: vec![
                peer("read", 3, 1, &[sharer(7, "app", 2)]),
                peer("write", 3, 0, &[sharer(9, "child", 3), sharer(7, "app", 1)]),
            ],
            ..Files::default()
        };
        let document = Document::default();
        let found = lines(&Register::of(&document), 7, &both);
        assert_eq!(
            found,
            ["read end: itself 2; nobody any more 1", "write end: child (9); itself 1"],
            "both processes have the same ends"
        );
        let own = Files { peer: vec![peer("socket", 2, 0, &[sharer(7, "app", 2)])], ..Files::default() };
        assert_eq!(lines(&Register::of(&document), 7, &own), ["other end: itself"]);
        assert_eq!(lines(&Register::of(&document), 7, &Files::default()), Vec::<String>::new());
    }

    #[test]
    fn what_leads_nowhere() {
        let files = Files { count: 200, peer: vec![peer("socket", 200, 200, &[])], ..Files::default() };
        let text = sentence(&document(vec![files])).expect("a sentence");
        assert!(text.starts_with("200 of 200 handles lead nowhere"), "{text}");
    }

    #[test]
    fn of_several_groups() {
        let all = pipes(3);
        let found = together(all.iter());
        assert_eq!((found.len(), found[0].count, found[0].processes.len()), (1, 3, 3));
    }
}
