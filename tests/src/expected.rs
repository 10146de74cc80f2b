//! The expected result for every kernel, backend and field, from `expected.toml`.

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The text of the file; inside the program, so that a virtual machine needs no checkout.
const FILE: &str = include_str!("../expected.toml");

/// Every backend that fdtrace has.
pub const BACKENDS: [&str; 3] = ["kprobe", "fentry", "tracepoint"];

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// Handles created.
    Allocated,
    /// Handles gone.
    Released,
    /// Of those, never opened.
    NeverOpened,
    /// Handles alive.
    Live,
    /// Live handles by origin.
    Origin,
    /// Live handles by kind.
    Kind,
    /// Released handles by cause.
    Cause,
    /// Allocations that failed.
    Errors,
}

impl Field {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Allocated,
        Self::Released,
        Self::NeverOpened,
        Self::Live,
        Self::Origin,
        Self::Kind,
        Self::Cause,
        Self::Errors,
    ];

    /// Its name in the file and in results.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allocated => "allocated",
            Self::Released => "released",
            Self::NeverOpened => "never_opened",
            Self::Live => "live",
            Self::Origin => "origin",
            Self::Kind => "kind",
            Self::Cause => "cause",
            Self::Errors => "errors",
        }
    }
}

/// How closely a field must agree with the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is the truth.
    Exact,
    /// It is the truth, or off by no more than the losses that are shown.
    CountedLoss {
        /// Why it cannot be exact.
        reason: String,
    },
    /// It is empty, zero or unknown.
    NotSeen {
        /// Why it cannot be seen.
        reason: String,
    },
}

impl Expected {
    /// Its name in the file and in results.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::CountedLoss { .. } => "counted loss",
            Self::NotSeen { .. } => "not seen",
        }
    }
}

/// What the file says of one kernel and backend, for one kind of load.
#[derive(Clone, Debug)]
pub struct Expectations(BTreeMap<Field, Expected>);

impl Expectations {
    /// What is expected of a field.
    ///
    /// # Panics
    /// Never: [`Entry::load`] lets only complete ones out.
    #[must_use]
    pub fn of(&self, field: Field) -> &Expected {
        &self.0[&field]
    }
}

/// How many threads make the load: some losses need two that run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// One thread.
    One,
    /// Many threads on few CPUs.
    Storm,
}

/// What is expected of a backend on a kernel.
#[derive(Clone, Debug)]
pub enum Entry {
    /// It cannot be used.
    Unavailable {
        /// Why.
        reason: String,
    },
    /// It can be used, with these results.
    Available {
        /// Under a load of one thread.
        one: Expectations,
        /// Under a load of many threads.
        storm: Expectations,
    },
}

impl Entry {
    /// What the file says of the running kernel.
    ///
    /// # Errors
    /// When it says nothing: a kernel and backend without an entry is a failure, not a pass.
    pub fn load(release: &str, backend: &str) -> Result<Self> {
        let entry = kernel(release)?.backends.remove(backend);
        entry.with_context(|| format!("expected.toml has no entry for {release}, {backend}"))?.check()
    }

    /// The expectations for a load.
    ///
    /// # Errors
    /// When the backend should not be usable at all.
    pub fn for_load(&self, load: Load) -> Result<&Expectations> {
        match (self, load) {
            (Self::Available { one, .. }, Load::One) => Ok(one),
            (Self::Available { storm, .. }, Load::Storm) => Ok(storm),
            (Self::Unavailable { reason }, _) => {
                bail!("expected.toml says that this backend is unavailable here ({reason}), but it is in use")
            }
        }
    }
}

/// Why a step of the workload, or something else that a test needs, is refused on a kernel; `None` when it must not be.
///
/// # Errors
/// When the kernel is not listed.
pub fn not_possible(release: &str, what: &str) -> Result<Option<String>> {
    Ok(kernel(release)?.not_possible.remove(what))
}

/// The holders that a walk does not see all of on a kernel, with the reasons.
///
/// # Errors
/// When the kernel is not listed.
pub fn unseen_holders(release: &str) -> Result<BTreeMap<String, String>> {
    Ok(kernel(release)?.explain_misses)
}

fn kernel(release: &str) -> Result<Kernel> {
    let series = series(release)?;
    let mut file: BTreeMap<String, Kernel> = toml::from_str(FILE).context("expected.toml")?;
    file.remove(&series).with_context(|| format!("expected.toml has no entry for {series}"))
}

#[derive(Deserialize)]
struct Kernel {
    #[serde(default)]
    not_possible: BTreeMap<String, String>,
    #[serde(default)]
    explain_misses: BTreeMap<String, String>,
    #[serde(flatten)]
    backends: BTreeMap<String, RawEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    unavailable: Option<String>,
    #[serde(default)]
    one: BTreeMap<Field, RawExpected>,
    /// Where it differs from `one`.
    #[serde(default)]
    storm: BTreeMap<Field, RawExpected>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum RawExpected {
    Word(String),
    Reasoned { expect: String, reason: String },
}

impl RawEntry {
    fn check(self) -> Result<Entry> {
        if let Some(reason) = self.unavailable {
            return Ok(Entry::Unavailable { reason });
        }
        let mut storm = self.one.clone();
        storm.extend(self.storm);
        Ok(Entry::Available { one: complete(self.one)?, storm: complete(storm)? })
    }
}

fn complete(raw: BTreeMap<Field, RawExpected>) -> Result<Expectations> {
    let fields: BTreeMap<_, _> =
        raw.into_iter().map(|(field, raw)| Ok((field, raw.check()?))).collect::<Result<_>>()?;
    for field in Field::ALL {
        ensure!(fields.contains_key(&field), "nothing is said about {}", field.word());
    }
    Ok(Expectations(fields))
}

impl RawExpected {
    fn check(self) -> Result<Expected> {
        match self {
            Self::Word(word) if word == "exact" => Ok(Expected::Exact),
            Self::Word(word) => bail!("{word:?} needs a reason"),
            Self::Reasoned { expect, reason } if expect == "counted loss" => {
                Ok(Expected::CountedLoss { reason })
            }
            Self::Reasoned { expect, reason } if expect == "not seen" => Ok(Expected::NotSeen { reason }),
            Self::Reasoned { expect, .. } => bail!("what is {expect:?}?"),
        }
    }
}

/// The name under which the file lists a kernel: `6.12` for 6.12.48, and `7.x` for all of 7.
fn series(release: &str) -> Result<String> {
    let mut numbers = release.split(['.', '-', '+', '_']);
    let (major, minor) = numbers.next().zip(numbers.next()).context("what kernel is this?")?;
    Ok(if major == "7" { "7.x".to_owned() } else { format!("{major}.{minor}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_something_about_every_kernel_backend_and_field() -> Result<()> {
        for kernel in ["5.10.0-1-x", "6.1.170", "6.12.1", "6.18.44-a", "7.2-rc1"] {
            for backend in BACKENDS {
                Entry::load(kernel, backend).with_context(|| format!("{kernel}, {backend}"))?;
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_not_possible_has_a_reason() -> Result<()> {
        assert!(not_possible("5.10.0", "io-uring-rings")?.is_some());
        assert!(not_possible("6.12.0", "io-uring-rings")?.is_none());
        assert!(not_possible("4.19.0", "io-uring-rings").is_err());
        Ok(())
    }

    #[test]
    fn a_kernel_that_is_not_listed_is_an_error() {
        assert!(Entry::load("4.19.0", "kprobe").is_err());
    }
}
