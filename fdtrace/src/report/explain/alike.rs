//! Files of a process in a few rows: those that have something in common are one.

use std::{cmp::Reverse, collections::HashMap};

use super::peers;
use crate::{analysis::in_common, model::explain::Files, text::fmt::number};

/// So many are one row.
const MANY: usize = 4;
/// Descriptors that a row names.
const EXAMPLES: usize = 3;

/// The rows of a process's files, as they come but for the deleted first, and then those with most handles.
pub(super) fn gathered(files: &[Files]) -> Vec<Files> {
    let mut rows: Vec<Files> = Vec::new();
    let mut left: Vec<&Files> = files.iter().collect();
    let levels = files.iter().map(|files| in_common(files).len()).max().unwrap_or(0);
    for level in 0..levels {
        let mut alike: HashMap<(&str, bool, String), Vec<&Files>> = HashMap::new();
        for files in &left {
            if let Some(label) = in_common(files).into_iter().nth(level) {
                alike.entry((&files.kind, files.deleted, label)).or_default().push(files);
            }
        }
        alike.retain(|_, members| members.len() >= MANY);
        let is_in = |files: &Files| {
            let label = in_common(files).into_iter().nth(level);
            label.is_some_and(|label| alike.contains_key(&(files.kind.as_str(), files.deleted, label)))
        };
        left.retain(|files| !is_in(files));
        rows.extend(alike.into_iter().map(|((_, _, label), members)| row(&label, &members)));
    }
    rows.extend(left.into_iter().cloned());
    rows.sort_by(|one, other| {
        let order = |files: &Files| (Reverse(files.deleted), Reverse(files.count));
        order(one).cmp(&order(other)).then_with(|| place(files, one).cmp(&place(files, other)))
    });
    rows
}

/// Where the first of a row's files was.
fn place(files: &[Files], row: &Files) -> (usize, String) {
    let first = files.iter().position(|files| files.name == row.name);
    (first.unwrap_or(0), row.name.clone())
}

fn row(label: &str, members: &[&Files]) -> Files {
    let first = members[0];
    let count: u64 = members.iter().map(|member| member.count).sum();
    let different = members.len() as u64;
    let name = if different == count {
        label.to_owned()
    } else {
        format!("{label}, {} different", number(different))
    };
    let mut row = Files {
        kind: first.kind.clone(),
        name,
        count,
        deleted: first.deleted,
        state: first.state.clone(),
        queue: first.queue.map(|_| crate::model::explain::Queue::default()),
        peer: peers::together(members.iter().copied()),
        opened_by: first.opened_by.filter(|opener| members.iter().all(|one| one.opened_by == Some(*opener))),
        ..Files::default()
    };
    for member in members {
        row.hidden += member.hidden;
        row.bytes += member.bytes;
        row.inherited += member.inherited;
        row.examples.extend(&member.examples);
        for (holder, count) in &member.holders {
            *row.holders.entry(holder.clone()).or_default() += count;
        }
        if let (Some(sum), Some(queue)) = (&mut row.queue, member.queue) {
            sum.receive += queue.receive;
            sum.send += queue.send;
        }
    }
    row.examples.sort_unstable();
    row.examples.truncate(EXAMPLES);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(kind: &str, name: &str, fd: u32) -> Files {
        Files {
            kind: kind.to_owned(),
            name: name.to_owned(),
            count: 1,
            examples: vec![fd],
            holders: [("descriptor".to_owned(), 1)].into(),
            ..Files::default()
        }
    }

    fn names(files: &[Files]) -> Vec<(u64, String)> {
        gathered(files).into_iter().map(|row| (row.count, row.name)).collect()
    }

    #[test]
    fn connections_in_one_row() {
        let closing = |fd: u32| Files {
            state: Some("CLOSE_WAIT".to_owned()),
            ..files("socket", &format!("tcp 127.0.0.1:80 to 10.0.0.{fd}:{} CLOSE_WAIT", 1000 + fd), fd)
        };
        let listener =
            Files { state: Some("LISTEN".to_owned()), ..files("socket", "tcp 127.0.0.1:80 LISTEN", 3) };
        let mut some: Vec<Files> = (4..104).map(closing).collect();
        some.push(listener);
        let expected = [
            (100, "sockets in CLOSE_WAIT at 127.0.0.1:80".to_owned()),
            (1, "tcp 127.0.0.1:80 LISTEN".to_owned()),
        ];
        assert_eq!(names(&some), expected);
        let row = &gathered(&some)[0];
        assert_eq!((row.examples.as_slice(), row.holders["descriptor"]), (&[4, 5, 6][..], 100));
    }

    #[test]
    fn files_by_folder_and_ending() {
        let mut some: Vec<Files> =
            (0..9).map(|fd| files("regular", &format!("/data/{fd}.log"), fd)).collect();
        some.extend((0..4).map(|fd| files("regular", &format!("/data/{fd}.idx"), fd)));
        some.push(files("regular", "/etc/hosts", 20));
        some.push(files("anon", "[eventfd]", 21));
        let expected = [
            (9, "*.log files in /data".to_owned()),
            (4, "*.idx files in /data".to_owned()),
            (1, "/etc/hosts".to_owned()),
            (1, "[eventfd]".to_owned()),
        ];
        assert_eq!(names(&some), expected);
    }

    #[test]
    fn few_stay_as_they_are() {
        let some: Vec<Files> = (0..3).map(|fd| files("regular", &format!("/data/{fd}"), fd)).collect();
        assert_eq!(gathered(&some).len(), 3);
        let pipes: Vec<Files> = (0..600).map(|fd| files("fifo", &format!("pipe:[{fd}]"), fd)).collect();
        assert_eq!(names(&pipes), [(600, "pipes".to_owned())]);
        let both: Vec<Files> = pipes.into_iter().map(|pipe| Files { count: 2, ..pipe }).collect();
        assert_eq!(names(&both), [(1200, "pipes, 600 different".to_owned())]);
    }
}
