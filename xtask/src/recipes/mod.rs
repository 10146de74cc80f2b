//! `cargo xtask recipes`: what docs/ci.md tells people to do, done.

mod table;

use crate::{apt, ordinary, run, tables::markdown};
use anyhow::{Context as _, Result, bail};
use fdtrace_tests::corpus::Ended;
use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};
use table::{Recipe, Step};
use tempfile::TempDir;

/// The sample projects, in the checkout.
const PROJECTS: &str = "tests/recipes";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these recipes of tests/recipes/recipes.toml
    #[arg(value_name = "NAME")]
    only: Vec<String>,
    /// An fdtrace that is built already
    #[arg(long, value_name = "PATH")]
    fdtrace: Option<PathBuf>,
    /// Show what is said, as docs/ci.md has it
    #[arg(long)]
    show: bool,
    /// First install what is missing (Debian or Ubuntu, as root)
    #[arg(long)]
    install: bool,
}

/// Where a recipe is tried; removed in the end.
struct Place {
    folder: TempDir,
    path: OsString,
    /// The checkout, for what is installed from it.
    source: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let recipes = chosen(&args.only)?;
    if args.install {
        let packages: BTreeSet<&str> =
            recipes.iter().filter(|recipe| recipe.missing().is_some()).flat_map(Recipe::packages).collect();
        apt::install(&packages.into_iter().collect::<Vec<_>>())?;
    }
    if !run::is_root()? {
        bail!("tracing needs root");
    }
    let fdtrace = ordinary::fdtrace(args.fdtrace.as_deref())?;
    let mut rows = vec![["recipe", "steps", "result"].map(str::to_owned).to_vec()];
    let mut wrong = Vec::new();
    for recipe in &recipes {
        let found = attempt(&fdtrace, recipe, args.show);
        let result = match &found {
            Ok(lines) if lines.is_empty() => "as the page says".to_owned(),
            Ok(lines) => format!("{} differ", lines.len()),
            Err(Skipped(why)) => format!("left out: {why}"),
        };
        rows.push(vec![recipe.name.clone(), recipe.steps.len().to_string(), result]);
        wrong.extend(found.unwrap_or_default().into_iter().map(|line| format!("{}: {line}", recipe.name)));
    }
    print!("{}", markdown(&rows));
    wrong.iter().for_each(|line| println!("{line}"));
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why a recipe was not tried.
struct Skipped(String);

/// Tries a recipe, and says what is not as it should be.
fn attempt(fdtrace: &Path, recipe: &Recipe, show: bool) -> Result<Vec<String>, Skipped> {
    if let Some(name) = recipe.missing() {
        return Err(Skipped(format!("no {name} here")));
    }
    eprintln!("{}", recipe.name);
    Ok(steps(fdtrace, recipe, show).unwrap_or_else(|error| vec![format!("{error:#}")]))
}

fn steps(fdtrace: &Path, recipe: &Recipe, show: bool) -> Result<Vec<String>> {
    let place = Place::of(fdtrace, &recipe.project)?;
    let mut wrong = Vec::new();
    for step in &recipe.steps {
        let ended = fdtrace_tests::corpus::timed(&mut place.command(&step.run))?;
        if show {
            print(step, &ended, &place);
        }
        wrong.extend(step.wrong(ended.status, &[ended.stdout, ended.stderr].concat()));
    }
    Ok(wrong)
}

fn print(step: &Step, ended: &Ended, place: &Place) {
    let folder = place.work().display().to_string();
    let said = |text: &str| text.replace(&folder, "/project");
    println!("$ {}\n{}{}", step.run, said(&ended.stdout), said(&ended.stderr));
    println!("-- status {}\n", ended.status);
}

impl Place {
    /// A copy of a project, with an `fdtrace` on the path.
    fn of(fdtrace: &Path, project: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("fdtrace-recipe-").tempdir().context("no directory")?;
        let programs = folder.path().join("bin");
        fs::create_dir(&programs)?;
        symlink(fdtrace, programs.join("fdtrace"))?;
        let before = env::var_os("PATH").unwrap_or_default();
        // What a recipe installs for itself comes first.
        let installed = folder.path().join("project/venv/bin");
        let path = env::join_paths([programs, installed].into_iter().chain(env::split_paths(&before)))?;
        let source = run::checkout()?;
        let place = Self { folder, path, source };
        copy(&place.source.join(PROJECTS).join(project), &place.work())?;
        Ok(place)
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        ordinary::forget_cargo(&mut command);
        // Colours are for terminals, and caches are for the next time.
        command.args(["-c", line]).current_dir(self.work()).env("PATH", &self.path);
        command.env("CARGO_TERM_COLOR", "never").env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("FDTRACE_SOURCE", &self.source);
        command
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => drop(fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<Recipe>> {
    let mut recipes = table::recipes()?;
    if let Some(unknown) = names.iter().find(|name| !recipes.iter().any(|recipe| recipe.name == **name)) {
        bail!("no recipe is called {unknown}");
    }
    recipes.retain(|recipe| names.is_empty() || names.contains(&recipe.name));
    Ok(recipes)
}
