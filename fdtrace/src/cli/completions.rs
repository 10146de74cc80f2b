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
    use std::collections::BTreeMap;

    use clap::Command;

    use super::*;

    /// Verbs whose `-p` and the like mean the same must call it the same: each long option has one short form everywhere, and each
    /// short form one long option.
    #[test]
    fn an_option_has_one_name() {
        let command = super::super::Arguments::command();
        let (mut shorts, mut longs) = (BTreeMap::new(), BTreeMap::new());
        for (verb, long, short) in command.get_subcommands().flat_map(options) {
            let known = longs.entry(long.clone()).or_insert(short);
            assert_eq!(*known, short, "--{long} of {verb}");
            if let Some(short) = short {
                let known = shorts.entry(short).or_insert_with(|| long.clone());
                assert_eq!(*known, long, "-{short} of {verb}");
            }
        }
        assert!(longs.len() > 40, "{longs:?}");
    }

    fn options(verb: &Command) -> Vec<(String, String, Option<char>)> {
        let of = |option: &clap::Arg| {
            Some((verb.get_name().to_owned(), option.get_long()?.to_owned(), option.get_short()))
        };
        verb.get_arguments().filter_map(of).collect()
    }
}
