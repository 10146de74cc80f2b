//! What a frame of a stack has to be.

use super::manifest::Built;
use fdtrace::model::UserFrame;
use serde::Deserialize;
use std::{fmt, path::Path};

/// A frame, or several of one kind, as `expected.toml` describes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    function: Option<String>,
    pub(super) mark: Option<String>,
    #[serde(default)]
    inlined: bool,
    module: Option<String>,
    #[serde(default)]
    hidden: bool,
    times: Option<usize>,
    many: Option<Vec<String>>,
}

/// Where a stack parts from the true one, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// All frames that it has are true, and some are missing at its end.
    Short(String),
    Wrong(String),
}

/// Compares a whole stack, innermost first.
pub(super) fn compare(stack: &[Pattern], frames: &[UserFrame], built: &Built) -> Result<(), Difference> {
    let mut number = 0;
    for (index, pattern) in stack.iter().enumerate() {
        for _ in 0..pattern.times.unwrap_or(1) {
            let short = || Difference::Short(format!("ends before frame {number}, {pattern}"));
            let frame = frames.get(number).ok_or_else(short)?;
            let explain = |why| Difference::Wrong(format!("frame {number} is {}: {why}", Shown(frame)));
            pattern.check(frame, built).map_err(explain)?;
            number += 1;
        }
        let next = stack.get(index + 1);
        number += frames[number..].iter().take_while(|frame| pattern.takes(frame, next, built)).count();
    }
    match &frames[number..] {
        [] => Ok(()),
        [frame, more @ ..] => {
            Err(Difference::Wrong(format!("goes on with {} and {} more", Shown(frame), more.len())))
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Short(why) | Self::Wrong(why)) = self;
        write!(f, "{why}")
    }
}

impl Pattern {
    /// Whether a frame belongs to this pattern too, after the first one.
    fn takes(&self, frame: &UserFrame, next: Option<&Self>, built: &Built) -> bool {
        let is_next = next.is_some_and(|next| next.check(frame, built).is_ok());
        self.many.is_some() && !is_next && self.check(frame, built).is_ok()
    }

    /// Says what is wrong with a frame.
    fn check(&self, frame: &UserFrame, built: &Built) -> Result<(), String> {
        self.check_module(frame, built)?;
        if let Some(words) = &self.many {
            return check_words(words, frame);
        }
        if frame.inlined != self.inlined {
            return Err(format!("{self} is {}inlined", if self.inlined { "" } else { "not " }));
        }
        match &built.functions {
            Some(functions) if self.module.is_none() => {
                let name = self.function.as_deref().unwrap_or_default();
                check_place(functions.get(name).copied(), frame, built)
            }
            _ => self.check_name(frame).and_then(|()| self.check_line(frame, built)),
        }
    }

    fn check_module(&self, frame: &UserFrame, built: &Built) -> Result<(), String> {
        let own = || built.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let expected = self.module.clone().or_else(own).unwrap_or_default();
        match base(frame.module.as_deref()) {
            found if found == expected => Ok(()),
            _ => Err(format!("{self} is in {expected}")),
        }
    }

    fn check_name(&self, frame: &UserFrame) -> Result<(), String> {
        let Some(function) = &self.function else { return Ok(()) };
        let good = match &frame.symbol {
            Some(symbol) => function.split('|').any(|name| is_called(symbol, name)),
            None => self.hidden,
        };
        if good { Ok(()) } else { Err(format!("expected {self}")) }
    }

    fn check_line(&self, frame: &UserFrame, built: &Built) -> Result<(), String> {
        let Some(mark) = &self.mark else { return Ok(()) };
        let place = built.mark(mark).map_err(|error| error.to_string())?;
        let good = base(frame.file.as_deref()) == place.file && frame.line == Some(place.line);
        if good { Ok(()) } else { Err(format!("expected {}:{}", place.file, place.line)) }
    }
}

/// Of many frames: each has one of these words in its name, if there are words at all.
fn check_words(words: &[String], frame: &UserFrame) -> Result<(), String> {
    let name = frame.symbol.as_deref().unwrap_or_default();
    let good = words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    if good { Ok(()) } else { Err(format!("expected one of {words:?}")) }
}

/// Of a stripped program: no name, and the right place in the right file.
fn check_place(range: Option<(u64, u64)>, frame: &UserFrame, built: &Built) -> Result<(), String> {
    let (start, end) = range.ok_or("the table names a function that the program does not have")?;
    if frame.symbol.is_some() || frame.file.is_some() {
        return Err("a stripped program has no names".to_owned());
    }
    if frame.build_id != built.build_id {
        return Err(format!("expected build-id {:?}", built.build_id));
    }
    match (start..end).contains(&frame.offset) {
        true => Ok(()),
        false => Err(format!("expected an offset from {start:#x} to {end:#x}")),
    }
}

fn base(path: Option<&str>) -> String {
    let name = path.and_then(|path| Path::new(path).file_name());
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a symbol is a function of this name, whatever its parameters, the type that it returns, its last type arguments
/// and the hash that Rust puts behind it.
fn is_called(symbol: &str, name: &str) -> bool {
    let bare = without_hash(without_parameters(symbol));
    let bare = without_type(bare);
    bare == name || without_arguments(bare) == name || symbol == name
}

/// `int f<A>(B)` without `(B)`, and whatever follows it.
fn without_parameters(symbol: &str) -> &str {
    let end = at_depth_0(symbol).find(|(_, letter)| *letter == '(').map(|(index, _)| index);
    match end {
        // Go has its receivers in parentheses: `main.(*T).f`.
        Some(end) if end > 0 && !symbol[..end].ends_with('.') => &symbol[..end],
        _ => symbol,
    }
}

/// `int f<A>` without `int`.
fn without_type(symbol: &str) -> &str {
    let start = at_depth_0(symbol).filter(|(_, letter)| *letter == ' ').last();
    start.map_or(symbol, |(index, _)| &symbol[index + 1..])
}

/// `f<A>` and `f::<A>` without the arguments.
fn without_arguments(symbol: &str) -> &str {
    if !symbol.ends_with('>') {
        return symbol;
    }
    let start = at_depth_0(symbol).filter(|(_, letter)| *letter == '<').last();
    start.map_or(symbol, |(index, _)| symbol[..index].trim_end_matches("::"))
}

fn without_hash(symbol: &str) -> &str {
    match symbol.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => symbol,
    }
}

/// The letters that are not inside of angle brackets; an opening one is outside.
fn at_depth_0(symbol: &str) -> impl Iterator<Item = (usize, char)> {
    let mut depth = 0_u32;
    symbol.char_indices().filter(move |(_, letter)| {
        let before = depth;
        match letter {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        before == 0
    })
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.function, &self.module) {
            (Some(function), _) => write!(f, "{}", function.split('|').next().unwrap_or_default()),
            (None, Some(module)) => write!(f, "a function of {module}"),
            (None, None) => write!(f, "any of {:?}", self.many.as_deref().unwrap_or_default()),
        }
    }
}

/// A frame as a person would write it.
pub(super) struct Shown<'a>(pub(super) &'a UserFrame);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UserFrame { symbol, module, file, line, inlined, offset, .. } = self.0;
        match symbol {
            Some(symbol) => write!(f, "{symbol}")?,
            None => write!(f, "{}+{offset:#x}", base(module.as_deref()))?,
        }
        if let Some(file) = file {
            write!(f, " {}:{}", base(Some(file)), line.unwrap_or_default())?;
        }
        if *inlined { write!(f, " (inlined)") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::manifest::Place, *};
    use std::collections::BTreeMap;

    fn frame(symbol: &str, line: u32) -> UserFrame {
        UserFrame {
            symbol: Some(symbol.to_owned()),
            module: Some("/x/program".to_owned()),
            file: Some("/src/program.c".to_owned()),
            line: Some(line),
            ..UserFrame::default()
        }
    }

    fn pattern(function: &str, mark: &str) -> Pattern {
        Pattern { function: Some(function.to_owned()), mark: Some(mark.to_owned()), ..Pattern::default() }
    }

    fn built() -> Built {
        let place = |line| Place { file: "program.c".to_owned(), line };
        Built {
            path: "/x/program".into(),
            marks: BTreeMap::from([("one".to_owned(), place(1)), ("two".to_owned(), place(2))]),
            ..Built::default()
        }
    }

    #[test]
    fn a_chain_is_compared_frame_by_frame_and_to_its_end() {
        let stack = [pattern("f", "one"), pattern("g", "two")];
        let compare = |frames: &[UserFrame]| compare(&stack, frames, &built());
        assert_eq!(compare(&[frame("f", 1), frame("g", 2)]), Ok(()));
        let short = Difference::Short("ends before frame 1, g".to_owned());
        assert_eq!(compare(&[frame("f", 1)]), Err(short), "too short");
        assert!(compare(&[frame("f", 1), frame("g", 2), frame("h", 3)]).is_err(), "too long");
        assert!(compare(&[frame("g", 1), frame("f", 2)]).is_err(), "wrong names");
        let wrong = compare(&[frame("f", 1), frame("g", 1)]);
        assert!(wrong.is_err_and(|why| why.to_string().contains("program.c:2")));
        let inlined = UserFrame { inlined: true, ..frame("f", 1) };
        assert!(compare(&[inlined, frame("g", 2)]).is_err(), "not inlined");
    }

    #[test]
    fn a_frame_may_be_repeated_and_many_frames_stand_for_a_runtime() {
        let many = Pattern { many: Some(vec!["std::".to_owned()]), ..Pattern::default() };
        let stack = [Pattern { times: Some(2), ..pattern("f", "one") }, many, pattern("main", "two")];
        let compare = |frames: &[UserFrame]| compare(&stack, frames, &built());
        let (f, std, main) = (frame("f", 1), frame("std::a", 9), frame("main", 2));
        assert_eq!(compare(&[f.clone(), f.clone(), std.clone(), std.clone(), main.clone()]), Ok(()));
        assert!(compare(&[f.clone(), f.clone(), main.clone()]).is_err(), "at least one");
        assert!(compare(&[f, std, main]).is_err(), "two of them");
    }

    #[test]
    fn names_are_compared_without_what_languages_put_around_them() {
        for (symbol, name) in [
            ("open_config", "open_config"),
            ("void repeat<5>(store::Source const&, int (*)(char))", "repeat<5>"),
            ("store::Opener<store::Null>::open() const", "store::Opener<store::Null>::open"),
            ("pass(char const*) [clone .cold]", "pass"),
            ("release::open_all::<&str>", "release::open_all"),
            ("release::open_all<&str>", "release::open_all"),
            ("release::main::h0123456789abcdef", "release::main"),
            ("<release::Disk as release::Store>::fetch", "<release::Disk as release::Store>::fetch"),
            ("main.(*worker).step", "main.(*worker).step"),
        ] {
            assert!(is_called(symbol, name), "{symbol}");
        }
        assert!(!is_called("release::open_all_of_them", "release::open_all"));
    }

    #[test]
    fn a_stripped_program_is_compared_by_places() {
        let functions = BTreeMap::from([("f".to_owned(), (0x10, 0x20))]);
        let built = Built { functions: Some(functions), build_id: Some("ab".to_owned()), ..built() };
        let stack = [Pattern { function: Some("f".to_owned()), ..Pattern::default() }];
        let at = |offset| UserFrame {
            module: Some("/x/program".to_owned()),
            build_id: Some("ab".to_owned()),
            offset,
            ..UserFrame::default()
        };
        assert_eq!(compare(&stack, &[at(0x10)], &built), Ok(()));
        assert!(compare(&stack, &[at(0x20)], &built).is_err(), "behind it");
        assert!(
            compare(&stack, &[UserFrame { build_id: None, ..at(0x10) }], &built).is_err(),
            "another file"
        );
        assert!(compare(&stack, &[UserFrame { offset: 0x10, ..frame("f", 1) }], &built).is_err(), "a name");
    }
}
