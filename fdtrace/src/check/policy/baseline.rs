//! Leaks that are known and put up with: written by one check, read by later ones.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    model::{
        Site,
        check::{Class, Finding, Findings},
    },
    stacks::{
        name::{begin_alike, code_places},
        name_id, place,
    },
    text::fmt::escape_control,
};

/// Name and version of the shape.
const SCHEMA: &str = "fdtrace.baseline/1";

/// Known leaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Name and version of this shape.
    schema: String,
    /// Which fdtrace wrote it.
    fdtrace: String,
    /// One for each site.
    sites: Vec<BaselineEntry>,
}

/// A site that is known to leak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaselineEntry {
    /// The site's id.
    pub id: String,
    /// Hash of the origin and the names in the stack, which a rebuilt program keeps; none without a stack.
    pub name_id: Option<String>,
    /// Where that is, for people.
    pub place: String,
    /// Which kernel path, and where the stack's code is: for stacks of which less is found out in another run.
    #[serde(default)]
    origin: String,
    #[serde(default)]
    stack: Vec<String>,
    /// Calls that one image of it may keep.
    pub calls: u64,
}

impl Baseline {
    /// What leaks now and no suppression hides; under `--max-total` also what keeps calls without being a leak, for it
    /// counts as well.
    #[must_use]
    pub fn of(findings: &Findings) -> Self {
        let counts = |finding: &&Finding| match finding.class {
            Class::Leak => true,
            Class::Allowed => findings.applied.max_total.is_some(),
            Class::Suppressed => finding.suppressed_by.as_deref().is_some_and(is_ours),
            _ => false,
        };
        Self {
            schema: SCHEMA.to_owned(),
            fdtrace: env!("CARGO_PKG_VERSION").to_owned(),
            sites: findings.sites.iter().filter(counts).map(BaselineEntry::of).collect(),
        }
    }

    /// Reads what [`Self::to_json`] made.
    ///
    /// # Errors
    /// A text that is no baseline, or one of another version: a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let other =
            |why: String| format!("no baseline that `--write-baseline` wrote ({})", escape_control(&why));
        let value: Value = serde_json::from_str(text).map_err(|error| other(error.to_string()))?;
        match value.get("schema").and_then(Value::as_str) {
            Some(SCHEMA) => serde_json::from_value(value).map_err(|error| other(error.to_string())),
            Some(schema) if schema.starts_with("fdtrace.baseline/") => Err(format!(
                "a baseline of version {}, and this fdtrace reads {SCHEMA}: write it anew with --write-baseline",
                escape_control(schema)
            )),
            Some(schema) => Err(other(format!("its schema is {schema}"))),
            None => Err(other("it has no schema".to_owned())),
        }
    }

    /// As it is kept in a file.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Texts and numbers: there is nothing in it that JSON does not have.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// How many sites it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sites.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// For each of the findings the entry that knows it, by its id, else by the names of its functions, else by the beginning
    /// of its stack. One entry stands for one site: a second site of the same names is a new one. Findings that leak more
    /// choose first.
    pub(super) fn entries_of(&self, findings: &[&Finding]) -> Vec<Option<&BaselineEntry>> {
        let mut free: Vec<&BaselineEntry> = self.sites.iter().collect();
        free.sort_by_key(|entry| Reverse(entry.calls));
        let mut found: Vec<Option<&BaselineEntry>> =
            findings.iter().map(|finding| take(&mut free, |entry| entry.id == finding.site.id)).collect();
        let mut rest: Vec<usize> = (0..findings.len()).filter(|index| found[*index].is_none()).collect();
        rest.sort_by_key(|index| Reverse(findings[*index].leaked));
        for index in rest {
            let name = name_of(&findings[index].site);
            found[index] = take(&mut free, |entry| name.is_some() && entry.name_id == name);
        }
        let rest = (0..findings.len()).filter(|index| found[*index].is_none()).collect::<Vec<_>>();
        for index in rest {
            found[index] = take_cut(&mut free, &findings[index].site);
        }
        found
    }

    /// The entries, in the order of the file.
    pub(super) fn entries(&self) -> &[BaselineEntry] {
        &self.sites
    }
}

impl BaselineEntry {
    fn of(finding: &Finding) -> Self {
        let site = &finding.site;
        Self {
            id: site.id.clone(),
            name_id: name_of(site),
            place: place(&site.user_stack, &site.kernel_stack),
            origin: site.origin.name().to_owned(),
            stack: code_places(&site.user_stack),
            calls: finding.leaked,
        }
    }

    /// What a finding says that it excuses.
    pub(super) fn excuse(&self) -> String {
        format!("{OURS}{} {}", self.calls, if self.calls == 1 { "call" } else { "calls" })
    }
}

/// How an excuse begins.
const OURS: &str = "baseline: ";

/// Whether a baseline gave this excuse.
fn is_ours(excuse: &str) -> bool {
    excuse.starts_with(OURS)
}

fn name_of(site: &Site) -> Option<String> {
    site.name_id.clone().or_else(|| name_id(site.origin, &site.user_stack, &site.kernel_stack))
}

/// Of a process that ends at once, less of a stack may be found out than in another run: the only entry that begins like it.
fn take_cut<'a>(free: &mut Vec<&'a BaselineEntry>, site: &Site) -> Option<&'a BaselineEntry> {
    let stack = code_places(&site.user_stack);
    let is_it = |entry: &BaselineEntry| site.origin == *entry.origin && begin_alike(&entry.stack, &stack);
    let candidates = free.iter().filter(|entry| is_it(entry)).count();
    take(free, |entry| candidates == 1 && is_it(entry))
}

/// Takes the first one out that is asked for.
fn take<'a>(
    free: &mut Vec<&'a BaselineEntry>,
    is_it: impl Fn(&BaselineEntry) -> bool,
) -> Option<&'a BaselineEntry> {
    let index = free.iter().position(|entry| is_it(entry))?;
    Some(free.remove(index))
}
