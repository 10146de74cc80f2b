//! The kernel's preemption model, which decides what a backend can miss.

use std::{fmt, io::Read as _};

use crate::process::{around, procfs::Text};

/// Whether the kernel may preempt a task that runs in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// Never.
    None,
    /// At explicit points.
    Voluntary,
    /// Anywhere.
    Full,
    /// Anywhere, but late.
    Lazy,
    /// Anywhere, interrupts included.
    RealTime,
    /// Could not be found out.
    Unknown,
}

impl Preemption {
    /// Whether a BPF program that the kernel does not protect from preemption can be interrupted by another task.
    #[must_use]
    pub const fn preempts(self) -> bool {
        !matches!(self, Self::None | Self::Voluntary)
    }

    /// Finds out the running kernel's model: what it says itself, else its command line, else how it was built.
    #[must_use]
    pub fn current() -> Self {
        let read = |path: &str| Text::or_empty(path).shown();
        let config = build_configuration(&around::kernel_release());
        decide(
            &read("/sys/kernel/debug/sched/preempt"),
            &read("/proc/cmdline"),
            &read("/proc/sys/kernel/version"),
            &config,
        )
    }
}

impl fmt::Display for Preemption {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Voluntary => "voluntary",
            Self::Full => "full",
            Self::Lazy => "lazy",
            Self::RealTime => "rt",
            Self::Unknown => "unknown",
        })
    }
}

/// `debugfs` shows all models with the current one in parentheses; `version` is `uname -v`.
fn decide(debugfs: &str, cmdline: &str, version: &str, config: &str) -> Preemption {
    if version.contains("PREEMPT_RT") {
        return Preemption::RealTime;
    }
    if let Some(current) = debugfs.split(['(', ')']).nth(1) {
        return named(current);
    }
    let dynamic = version.contains("PREEMPT_DYNAMIC");
    if dynamic && let Some(model) = cmdline.split_whitespace().find_map(|word| word.strip_prefix("preempt="))
    {
        return named(model);
    }
    built(config).unwrap_or_else(|| built_from_version(version))
}

fn named(model: &str) -> Preemption {
    match model {
        "none" => Preemption::None,
        "voluntary" => Preemption::Voluntary,
        "full" => Preemption::Full,
        "lazy" => Preemption::Lazy,
        _ => Preemption::Unknown,
    }
}

fn built(config: &str) -> Option<Preemption> {
    let models = [
        ("CONFIG_PREEMPT_RT=y", Preemption::RealTime),
        ("CONFIG_PREEMPT_NONE=y", Preemption::None),
        ("CONFIG_PREEMPT_VOLUNTARY=y", Preemption::Voluntary),
        ("CONFIG_PREEMPT_LAZY=y", Preemption::Lazy),
        ("CONFIG_PREEMPT=y", Preemption::Full),
    ];
    models.into_iter().find(|(line, _)| config.lines().any(|found| found == *line)).map(|(_, model)| model)
}

/// A kernel that cannot change its model names it in `uname -v`; one that names nothing does not preempt.
fn built_from_version(version: &str) -> Preemption {
    if version.contains("PREEMPT_DYNAMIC") || version.trim().is_empty() {
        Preemption::Unknown
    } else if version.contains("PREEMPT_LAZY") {
        Preemption::Lazy
    } else if version.contains("PREEMPT") {
        Preemption::Full
    } else {
        Preemption::Voluntary
    }
}

fn build_configuration(release: &str) -> String {
    let plain = ["/boot/config-", "/lib/modules/"];
    let candidates = [format!("{}{release}", plain[0]), format!("{}{release}/config", plain[1])];
    if let Some(text) = candidates.iter().find_map(|path| Text::read(path).ok()) {
        return text.shown();
    }
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open("/proc/config.gz") {
        // A configuration that cannot be unpacked says nothing; what was read of it is not wrong.
        let _ = flate2::read::GzDecoder::new(file).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_model_wins() {
        let model = decide(
            "none voluntary (full) lazy",
            "preempt=none",
            "SMP PREEMPT_DYNAMIC",
            "CONFIG_PREEMPT_NONE=y",
        );
        assert_eq!(model, Preemption::Full);
    }

    #[test]
    fn then_the_command_line_of_a_kernel_that_can_change() {
        assert_eq!(decide("", "quiet preempt=full", "SMP PREEMPT_DYNAMIC", ""), Preemption::Full);
        assert_eq!(decide("", "preempt=full", "SMP Debian", "CONFIG_PREEMPT_NONE=y"), Preemption::None);
    }

    #[test]
    fn then_how_it_was_built() {
        let dynamic = "CONFIG_PREEMPT_NONE=y\nCONFIG_PREEMPT_DYNAMIC=y\n";
        assert_eq!(decide("", "", "SMP PREEMPT_DYNAMIC", dynamic), Preemption::None);
        assert_eq!(decide("", "", "SMP PREEMPT_RT", dynamic), Preemption::RealTime);
        assert_eq!(decide("", "", "#1 SMP Debian 5.10", ""), Preemption::Voluntary);
        assert_eq!(decide("", "", "#1 SMP PREEMPT_DYNAMIC", ""), Preemption::Unknown);
        assert_eq!(decide("", "", "", ""), Preemption::Unknown);
    }
}
