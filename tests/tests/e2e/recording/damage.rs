//! Files that are no traces, or not whole: a sentence, and all that can still be read.

use super::{Sample, fails, never_panics};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{Document, Finished, Scratch, TIMEOUT, fdtrace, finish, turn};
use std::{fs, path::Path, process::Command};

/// Bytes of the magic number, and of it with the version.
const MAGIC: usize = 8;
const PREAMBLE: usize = 12;

fn read(file: &Path) -> Result<Finished> {
    let finished = finish(Command::new(fdtrace()?).args(["report", "--json"]).arg(file), TIMEOUT)?;
    never_panics(&finished)?;
    Ok(finished)
}

fn read_bytes(scratch: &Scratch, bytes: &[u8]) -> Result<Finished> {
    let file = scratch.path().join("broken");
    fs::write(&file, bytes)?;
    read(&file)
}

/// The number behind a word.
fn byte(stderr: &str) -> Result<usize> {
    let (_, rest) = stderr.split_once("at byte ").with_context(|| format!("no byte in: {stderr:?}"))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

#[test]
fn what_is_no_trace() -> Result<()> {
    let scratch = Scratch::new()?;
    fails(&read_bytes(&scratch, b"#!/bin/sh\necho hello\n")?, "not a trace: byte 0")?;
    fails(&read_bytes(&scratch, b"\x89FDT\n\x1a\nxxxxxxxx")?, "not a trace: byte 4")?;
    fails(&read_bytes(&scratch, b"")?, "cut off at byte 0")?;
    fails(&read(&scratch.path().join("missing"))?, "missing")?;
    fails(&read(scratch.path())?, "directory")
}

#[test]
fn a_trace_that_is_cut_anywhere() -> Result<()> {
    let _turn = turn();
    let sample = Sample::new()?;
    let whole = fs::read(&sample.file)?;
    let in_blocks = (1..12).map(|part| whole.len() * part / 12);
    let places = [1, MAGIC, PREAMBLE - 1, PREAMBLE, PREAMBLE + 5, PREAMBLE + 40, 300];
    let places: Vec<usize> = places.into_iter().chain(in_blocks).chain([whole.len() - 1]).collect();
    let mut readable = Vec::new();
    for at in places {
        let finished = read_bytes(&sample.scratch, &whole[..at])?;
        let told = byte(&finished.stderr).with_context(|| format!("cut at {at}"))?;
        ensure!(finished.stderr.contains("cut off") && told <= at, "cut at {at}: {}", finished.stderr);
        if finished.status.code() == Some(0) {
            Document::parse(&finished.stdout).with_context(|| format!("cut at {at}"))?;
            readable.push(at);
        } else {
            ensure!(
                readable.is_empty(),
                "cut at {at} nothing is shown, with less {readable:?} something was"
            );
            ensure!(told == at, "cut at {at}: {}", finished.stderr);
        }
    }
    ensure!(readable.contains(&(whole.len() - 1)), "without its last byte nothing of it can be read");
    Ok(())
}

#[test]
fn a_trace_of_a_later_version() -> Result<()> {
    let _turn = turn();
    let sample = Sample::new()?;
    let mut bytes = fs::read(&sample.file)?;
    bytes[MAGIC] = 77;
    let finished = read_bytes(&sample.scratch, &bytes)?;
    fails(&finished, "version 77")?;
    fails(&finished, "reads versions up to")
}

#[test]
fn a_trace_with_a_wrong_byte() -> Result<()> {
    let _turn = turn();
    let sample = Sample::new()?;
    let whole = fs::read(&sample.file)?;
    for part in 3..12 {
        let at = whole.len() * part / 12;
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        let finished = read_bytes(&sample.scratch, &bytes)?;
        if finished.status.code() == Some(1) {
            // In the header: nothing can be shown.
            ensure!(finished.stderr.contains("header"), "byte {at}: {}", finished.stderr);
            continue;
        }
        let told =
            byte(&finished.stderr).with_context(|| format!("byte {at} of {} is wrong", whole.len()))?;
        ensure!(finished.stderr.contains("damaged") && told <= at, "byte {at}: {}", finished.stderr);
        let document = Document::parse(&finished.stdout).with_context(|| format!("byte {at}"))?;
        ensure!(!document.trace.complete, "byte {at} is wrong, and the document is complete");
    }
    Ok(())
}
