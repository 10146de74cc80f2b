//! Patterns of suppressions.

/// A text that is looked for: anywhere, or from the beginning (`^`), or up to the end (`$`); `*` is any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    from_start: bool,
    to_end: bool,
    /// What is between the stars; one at least.
    parts: Vec<String>,
}

impl Pattern {
    /// None for a pattern that every text has in it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (from_start, text) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
        let (to_end, text) = text.strip_suffix('$').map_or((false, text), |rest| (true, rest));
        let parts: Vec<String> = text.split('*').map(str::to_owned).collect();
        let says_something = parts.iter().any(|part| !part.is_empty());
        says_something.then_some(Self { from_start, to_end, parts })
    }

    /// Whether a text has it.
    pub(super) fn is_in(&self, text: &str) -> bool {
        match self.parts.as_slice() {
            [] => false,
            [part] => self.is_one_in(part, text),
            [first, middle @ .., last] => {
                let rest =
                    if self.from_start { text.strip_prefix(first.as_str()) } else { after(text, first) };
                let rest = middle.iter().fold(rest, |rest, part| after(rest?, part));
                rest.is_some_and(|rest| if self.to_end { rest.ends_with(last) } else { rest.contains(last) })
            }
        }
    }

    fn is_one_in(&self, part: &str, text: &str) -> bool {
        match (self.from_start, self.to_end) {
            (true, true) => text == part,
            (true, false) => text.starts_with(part),
            (false, true) => text.ends_with(part),
            (false, false) => text.contains(part),
        }
    }
}

/// What follows the first place where a part is.
fn after<'a>(text: &'a str, part: &str) -> Option<&'a str> {
    text.find(part).map(|start| &text[start + part.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern).expect("a pattern").is_in(text)
    }

    #[test]
    fn anywhere_unless_anchored() {
        assert!(is_in("leak", "my_leak_here") && !is_in("Leak", "my_leak_here"));
        assert!(is_in("^my", "my_leak") && !is_in("^leak", "my_leak"));
        assert!(is_in("leak$", "my_leak") && !is_in("my$", "my_leak"));
        assert!(is_in("^my_leak$", "my_leak") && !is_in("^my_leak$", "my_leaks"));
    }

    #[test]
    fn stars() {
        assert!(is_in("a*c", "xabcx") && !is_in("c*a", "xabcx"));
        assert!(is_in("^a*c$", "abbc") && !is_in("^a*c$", "abbcd") && !is_in("^b*c$", "abbc"));
        assert!(is_in("*/libcurl.so*", "/usr/lib/libcurl.so.4"));
        // No part takes letters of another one.
        assert!(!is_in("^ab*bc$", "abc") && is_in("^ab*bc$", "abbc") && !is_in("aa*aa", "aaa"));
        assert!(is_in("a**b", "a-b") && is_in("^grü*e$", "grüße"));
    }

    #[test]
    fn what_would_hide_everything_is_none() {
        assert!(["", "*", "^", "$", "^$", "^*$", "***"].iter().all(|text| Pattern::parse(text).is_none()));
    }
}
