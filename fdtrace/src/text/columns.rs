//! Lines that are no wider than the screen: sentences go on in the next line, rows of tables are cut.

/// Columns where there is no terminal that says how many it has.
pub(crate) const COLUMNS: usize = 100;
/// What stands where something was left out.
const LEFT_OUT: &str = "...";

/// A text whose lines have at most so many columns. Lines that begin with a blank are rows.
#[must_use]
pub(crate) fn fit(text: &str, width: usize) -> String {
    let mut fitted = String::with_capacity(text.len());
    for line in text.lines() {
        if columns(line) <= width {
            fitted.push_str(line);
        } else if line.starts_with(' ') {
            fitted.push_str(&cut(line, width));
        } else {
            fitted.push_str(&wrapped(line, width));
        }
        fitted.push('\n');
    }
    fitted
}

/// A name in so much room: its beginning says what it is, and of a path the end tells most.
#[must_use]
pub(crate) fn squeezed(name: &str, room: usize) -> String {
    let length = name.chars().count();
    if length <= room || room <= LEFT_OUT.len() {
        return name.to_owned();
    }
    let left = room - LEFT_OUT.len();
    let beginning: String = name.chars().take(left / 3).collect();
    let end: String = name.chars().skip(length - (left - left / 3)).collect();
    format!("{beginning}{LEFT_OUT}{end}")
}

/// Characters that take a column: not those of a style.
fn columns(line: &str) -> usize {
    visible(line).filter(|(_, is_visible)| *is_visible).count()
}

/// Each character, and whether it is seen.
fn visible(line: &str) -> impl Iterator<Item = (char, bool)> + '_ {
    let mut inside = false;
    line.chars().map(move |character| {
        let was_inside = inside;
        inside = character == '\x1b' || inside && character != 'm';
        (character, !inside && !was_inside)
    })
}

fn cut(line: &str, width: usize) -> String {
    let mut left = width.saturating_sub(LEFT_OUT.len());
    let mut text = String::new();
    let mut is_cut = false;
    for (character, is_visible) in visible(line) {
        if !is_visible {
            text.push(character);
        } else if left > 0 {
            left -= 1;
            text.push(character);
        } else if !is_cut {
            is_cut = true;
            text.push_str(LEFT_OUT);
        }
    }
    text
}

/// What goes on of a remark is indented, so that it is one; of a sentence it is not.
fn wrapped(line: &str, width: usize) -> String {
    let indent = if line.starts_with("! ") { "  " } else { "" };
    let (mut text, mut column) = (String::new(), 0);
    for word in line.split(' ') {
        let length = columns(word);
        if column > 0 && column + 1 + length > width {
            text.push('\n');
            text.push_str(indent);
            column = indent.len();
        } else if !text.is_empty() {
            text.push(' ');
            column += 1;
        }
        let room = width.saturating_sub(column);
        let word = if length > room { squeezed(word, room) } else { word.to_owned() };
        column += columns(&word);
        text.push_str(&word);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_go_on_and_rows_are_cut() {
        let text = fit("one two three four\n    1  a row that is long\n! no more than this\nshort\n", 12);
        assert_eq!(text, "one two\nthree four\n    1  a ...\n! no more\n  than this\nshort\n");
        assert!(fit(&"word ".repeat(50), 30).lines().all(|line| line.chars().count() <= 30));
    }

    #[test]
    fn styles_take_no_room_and_end() {
        let row = "  \x1b[33mabcdefghij\x1b[0m";
        assert_eq!(fit(row, 12), format!("{row}\n"));
        assert_eq!(fit(row, 9), "  \x1b[33mabcd...\x1b[0m\n");
    }

    #[test]
    fn words_that_are_too_long() {
        assert_eq!(squeezed("/a/very/long/path/to/a/file", 15), "/a/v...o/a/file");
        assert!(fit(&"x".repeat(500), 40).lines().all(|line| line.len() <= 40));
        assert_eq!(squeezed("short", 10), "short");
    }
}
