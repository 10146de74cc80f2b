//! docs/options.md: every verb and option, as help has them.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command, builder::StyledStr};

const HEAD: &str = "\
# Options

Made from the command line itself (`fdtrace/tests/reference`); not by hand. `fdtrace VERB --help` prints the same.
";

pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut command = fdtrace::cli::command();
    command.build();
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
    for verb in verbs {
        write_verb(&mut page, verb);
    }
    page
}

fn write_verb(page: &mut String, verb: &Command) {
    let about = verb.get_long_about().or(verb.get_about());
    let _ = write!(page, "\n## {}\n\n{}\n", verb.get_name(), text(about));
    let _ = write!(page, "\n| option | meaning |\n|---|---|\n");
    for option in verb.get_arguments().filter(|option| !option.is_hide_set() && option.get_id() != "help") {
        let _ = writeln!(page, "| {} | {} |", name(option), cell(&meaning(option)));
    }
}

/// `-p`, `--pid PID`
fn name(option: &Arg) -> String {
    let value = option.get_value_names().map_or_else(String::new, |names| names.join(" "));
    let takes_value = matches!(option.get_action(), ArgAction::Set | ArgAction::Append);
    let short = option.get_short().map_or_else(String::new, |short| format!("`-{short}`, "));
    match option.get_long() {
        Some(long) if takes_value => format!("{short}`--{long} {}`", value.replace('|', "\\|")),
        Some(long) => format!("{short}`--{long}`"),
        None => format!("`{value}`"),
    }
}

fn meaning(option: &Arg) -> String {
    let help = text(option.get_long_help().or(option.get_help()));
    let values: Vec<String> = option
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({})", value.get_name(), help),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    let default: Vec<_> = option.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let mut meaning = help;
    let has_values = matches!(option.get_action(), ArgAction::Set | ArgAction::Append);
    if has_values && !values.is_empty() {
        let _ = write!(meaning, ": {}", values.join(", "));
    }
    if has_values && !default.is_empty() {
        let _ = write!(meaning, " [default: {}]", default.join(" "));
    }
    meaning
}

fn text(styled: Option<&StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

/// On one line, with nothing that ends a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
