//! How many of the handles that a program leaks have the true stack.

use super::{
    Program,
    pattern::{Difference, Shown, compare},
};
use crate::harness::Document;
use fdtrace::model::{Kind, Site};
use std::fmt;

/// What was said of one program's handles.
#[derive(Clone, Debug)]
pub struct Score<'a> {
    program: &'a Program,
    /// Handles of which something was said.
    pub seen: u64,
    /// Those with any stack.
    shown: u64,
    /// Those with the whole true stack.
    pub named: u64,
    /// Those with only the beginning of it, marked as incomplete.
    partial: u64,
    /// Those with another one that is said to be whole.
    pub mistaken: u64,
    /// What is wrong with the others: why, and the stack.
    wrong: Vec<String>,
}

impl<'a> Score<'a> {
    /// The live handles of a process. What they leak is /dev/null; the libraries that they map are alive as well.
    #[must_use]
    pub fn of_process(program: &'a Program, pid: u32, document: &Document) -> Self {
        let mine = |site: &Site| {
            let processes = site.processes.iter().filter(|process| process.pid == pid);
            let leaked = site.kinds.contains_key(&Kind::Char);
            processes.filter(|_| leaked).map(|process| process.live).sum()
        };
        let mut score = Self::new(program, document, mine);
        score.wrong.extend((score.seen == 0).then(|| format!("no handle of process {pid}")));
        score
    }

    /// All handles that ever were; those of other stacks are the ones that starting a program takes.
    #[must_use]
    pub fn of_history(program: &'a Program, document: &Document) -> Self {
        let mut score = Self::new(program, document, |site| site.allocated);
        score.seen = score.named;
        score
    }

    fn new(program: &'a Program, document: &Document, count: impl Fn(&Site) -> u64) -> Self {
        let mut score =
            Self { program, seen: 0, shown: 0, named: 0, partial: 0, mistaken: 0, wrong: Vec::new() };
        let sites = document.sites.iter().map(|site| (site, count(site)));
        for (site, handles) in sites.filter(|(_, handles)| *handles > 0) {
            score.seen += handles;
            score.shown += if site.user_stack.is_empty() { 0 } else { handles };
            match score.evaluate(site) {
                Ok(()) => score.named += handles,
                Err(why) => {
                    score.partial += if is_beginning(site, &why) { handles } else { 0 };
                    score.mistaken += if site.user_stack_complete { handles } else { 0 };
                    score.wrong.push(format!("{handles} handles: {why}\n{}", stack(site)));
                }
            }
        }
        score
    }

    fn evaluate(&self, site: &Site) -> Result<(), Difference> {
        compare(&self.program.stack, &site.user_stack, &self.program.built)?;
        if site.user_stack_complete == self.program.cut {
            return Err(Difference::Wrong("marked as what it is not".to_owned()));
        }
        Ok(())
    }

    /// All of its handles were seen, and each has the true stack, or its beginning where that is as good as it gets.
    #[must_use]
    pub fn is_perfect(&self) -> bool {
        let Self { program, seen, named, partial, .. } = *self;
        seen == program.leaks && named + partial == program.leaks && partial <= program.partial
    }

    /// All of its handles have the true stack, or a beginning of it that is marked as no more.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.named + self.partial >= self.program.leaks
    }

    /// The handles that may have only a beginning have a stack: what it tells has been learnt.
    #[must_use]
    pub fn has_taught(&self) -> bool {
        self.shown >= self.program.partial
    }

    /// Of how many handles there should be something to say.
    #[must_use]
    pub fn leaks(&self) -> u64 {
        self.program.leaks
    }

    /// The program's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.program.name
    }
}

impl fmt::Display for Score<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, seen, named, wrong, .. } = self;
        write!(
            f,
            "{}: of {} handles {seen} were seen, {named} with the true stack",
            program.name, program.leaks
        )?;
        wrong.iter().filter(|_| !self.is_perfect()).try_for_each(|wrong| write!(f, "\n  {wrong}"))
    }
}

/// A stack that is not whole and says so; what it has is true.
fn is_beginning(site: &Site, difference: &Difference) -> bool {
    matches!(difference, Difference::Short(_)) && !site.user_stack.is_empty() && !site.user_stack_complete
}

fn stack(site: &Site) -> String {
    let frames = site.user_stack.iter().map(|frame| format!("      {}", Shown(frame)));
    let end = if site.user_stack_complete { "complete" } else { "incomplete" };
    frames.chain([format!("      ({end})")]).collect::<Vec<_>>().join("\n")
}
