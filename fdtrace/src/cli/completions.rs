//! `fdtrace completions`: what a shell has to know of the command line.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Outcome;

/// Print what a shell needs to complete fdtrace's options
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  fdtrace completions bash > /etc/bash_completion.d/fdtrace
  fdtrace completions zsh > /usr/local/share/zsh/site-functions/_fdtrace")]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "fdtrace", &mut text);
    io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use clap::{Arg, Command};

    use super::*;

    /// What every option means, once: a second name for a meaning does not get in here.
    const VOCABULARY: [(&str, &str); 62] = [
        ("alert", "a limit at which a sample is an alarm"),
        ("alert-command", "the program that gets an alarm"),
        ("all", "what is over too"),
        ("all-processes", "more than the command"),
        ("async", "who submitted asynchronous work"),
        ("backend", "how the hooks attach"),
        ("baseline", "known leaks, by number"),
        ("bpf-log", "another BPF object"),
        ("by", "how rows are grouped"),
        ("cgroup", "processes of a cgroup"),
        ("close-wait", "how long a peer may have hung up"),
        ("color", "colours"),
        ("comm", "processes by name"),
        ("count", "how many samples"),
        ("deleted", "files without a name"),
        ("descriptors", "whether duplicates are watched"),
        ("diff", "an older document"),
        ("duration", "when tracing ends"),
        ("fail-on", "diagnostics that fail"),
        ("follow", "descendants"),
        ("force", "overwriting"),
        ("format", "the output format"),
        ("handle", "one handle"),
        ("hidden", "what lsof cannot see"),
        ("holder", "handles by their holder"),
        ("ignore-kind", "kinds that never leak"),
        ("inherited", "what came across exec"),
        ("interval", "time between samples"),
        ("join", "a scope of the outer check"),
        ("json", "JSON in short"),
        ("json-out", "the JSON report of a check"),
        ("junit-out", "the JUnit report of a check"),
        ("kind", "handles by kind"),
        ("leak-exit-code", "the status of a leak"),
        ("mappings", "whether mappings are watched"),
        ("max-handles", "room for live handles"),
        ("max-per-site", "opens that a site may leave"),
        ("max-size", "the size at which a trace ends or rotates"),
        ("max-total", "opens that all sites may leave"),
        ("min-age", "the age from which handles are shown"),
        ("origin", "handles by origin"),
        ("output", "where the product goes"),
        ("pid", "processes by number"),
        ("ring-size", "room for events"),
        ("rotate", "how many parts a trace has"),
        ("same-inode", "handles that share a file"),
        ("sarif-out", "the SARIF report of a check"),
        ("settle", "how long a close may take"),
        ("signal", "what ends a service"),
        ("sockets", "sockets by state"),
        ("stacks", "which stacks are taken"),
        ("strict", "no open may be left"),
        ("suppressions", "known leaks, by pattern"),
        ("timeout", "when the walk gives up"),
        ("top", "how many rows"),
        ("trace", "a trace file beside the work"),
        ("uid", "processes by user"),
        ("until", "when a service has done enough"),
        ("unwind", "how stacks are followed"),
        ("user", "as whom the command runs"),
        ("verbose", "more of everything"),
        ("write-baseline", "where the baseline goes"),
    ];

    /// One meaning has one name, one short form and one word for its value in all verbs.
    #[test]
    fn an_option_has_one_name() {
        let command = super::super::Arguments::command();
        let (mut known, mut shorts) = (BTreeMap::new(), BTreeMap::new());
        for (verb, option) in command.get_subcommands().flat_map(options) {
            let long = option.get_long().expect("it is one of the long ones").to_owned();
            let looks = (option.get_short(), option.get_value_names().map(<[_]>::to_vec));
            let first = known.entry(long.clone()).or_insert_with(|| looks.clone());
            assert_eq!(*first, looks, "--{long} of {verb} is written in two ways");
            if let Some(short) = option.get_short() {
                let first = shorts.entry(short).or_insert_with(|| long.clone());
                assert_eq!(*first, long, "-{short} of {verb}");
            }
        }
        let meanings: BTreeMap<&str, &str> =
            VOCABULARY.iter().map(|(long, meaning)| (*meaning, *long)).collect();
        assert_eq!(meanings.len(), VOCABULARY.len(), "two names for one meaning");
        let named: BTreeSet<&str> = meanings.into_values().collect();
        assert_eq!(known.keys().map(String::as_str).collect::<BTreeSet<_>>(), named);
    }

    /// Those that help shows.
    fn options(verb: &Command) -> Vec<(String, Arg)> {
        let shown =
            verb.get_arguments().filter(|option| option.get_long().is_some() && !option.is_hide_set());
        shown.map(|option| (verb.get_name().to_owned(), option.clone())).collect()
    }
}
