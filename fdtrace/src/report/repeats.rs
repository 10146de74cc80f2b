//! Handles to which several descriptors point, in words.

use crate::{
    model::{FullTable, Kind, Repeat},
    text::fmt::{counted, escape_control, number},
};

/// `all 20 point to one handle: /tmp/log (regular)`
#[must_use]
pub(super) fn sentence(repeat: &Repeat, of: u64) -> String {
    let count = number(repeat.descriptors);
    let share = if repeat.descriptors >= of { format!("all {count}") } else { format!("{count} of them") };
    format!("{share} point to one handle: {}", handle(repeat))
}

/// `/tmp/log (regular)`; what nobody could name is its kind.
#[must_use]
pub(super) fn handle(repeat: &Repeat) -> String {
    match repeat.name.as_str() {
        "" if repeat.kind == Kind::Unknown => "a handle without a name".to_owned(),
        "" => format!("a {} without a name", repeat.kind),
        name => format!("{} ({})", escape_control(name), repeat.kind),
    }
}

/// `app (7) uses 300 of 300 descriptors for 5 handles; 295 point to one handle: /tmp/log (regular), repeated by leak app.c:12`
#[must_use]
pub(super) fn of_table(table: &FullTable) -> String {
    let limit = table.limit.map(|limit| format!(" of {}", number(limit))).unwrap_or_default();
    let mut text = format!(
        "{} ({}) uses {}{limit} descriptors for {}",
        escape_control(&table.comm),
        table.pid,
        number(table.descriptors),
        counted(table.handles, "handle"),
    );
    if let Some(most) = table.repeats.first() {
        let count = number(most.descriptors);
        text += &format!("; {count} point to one handle: {}", handle(most));
    }
    if let Some(place) = &table.place {
        text += &format!(", repeated by {}", escape_control(place));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words() {
        let repeat = |name: &str| Repeat { name: name.to_owned(), kind: Kind::Regular, descriptors: 20 };
        assert_eq!(sentence(&repeat("/x\x1b"), 20), "all 20 point to one handle: /x\\u{1b} (regular)");
        assert_eq!(sentence(&repeat(""), 21), "20 of them point to one handle: a regular without a name");
    }
}
