//! Steps that map files as code, and files that a fork copies.

use super::{
    children::Running,
    ledger::{By, Entry, Holder, Kind, Ledger, Mapping, Origin},
    place::{FILE_LEN, Place},
    steps::{map, open, open_file},
};
use anyhow::{Context as _, Result};
use rustix::{
    fd::OwnedFd,
    fs::{MemfdFlags, OFlags, ftruncate, memfd_create, unlink},
    mm::{MapFlags, ProtFlags, mmap},
};
use std::ptr;

/// As [`map`], to be executed.
fn map_code(file: &OwnedFd) -> Result<Mapping> {
    let protection = ProtFlags::READ | ProtFlags::EXEC;
    // SAFETY: the kernel chooses the address, and nobody jumps there.
    let address = unsafe { mmap(ptr::null_mut(), FILE_LEN, protection, MapFlags::PRIVATE, file, 0) };
    // SAFETY: the mapping was just made with this length, and nothing else knows it.
    Ok(unsafe { Mapping::new(address.context("mmap")?, FILE_LEN) })
}

/// One file that is mapped as code again and again, and closed.
pub(super) fn code(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let mapping = map_code(&open_file(place)?)?;
        ledger.hold(Holder::Mapping(mapping), Entry::new(Origin::Open, Kind::Regular, 1, By::Mapping));
        Ok(())
    })
}

/// Memory files that are mapped as code, as a compiler does that makes code for the moment.
pub(super) fn memfd_code(_: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let file = memfd_create(c"workload", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, FILE_LEN as u64)?;
        let mapping = map_code(&file)?;
        ledger.hold(Holder::Mapping(mapping), Entry::new(Origin::Shmem, Kind::Memfd, 1, By::Mapping));
        Ok(())
    })
}

/// A file of its own, with room for one mapping.
fn new_file(place: &Place, keep_name: bool) -> Result<OwnedFd> {
    let path = place.new_name()?;
    let file = open(&path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC)?;
    ftruncate(&file, FILE_LEN as u64)?;
    if !keep_name {
        unlink(&path)?;
    }
    Ok(file)
}

/// Plugins that were copied, loaded and deleted.
pub(super) fn deleted_code(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    (0..count).try_for_each(|_| {
        let mapping = map_code(&new_file(place, false)?)?;
        let entry = Entry::new(Origin::Open, Kind::Regular, 1, By::Mapping);
        ledger.hold(Holder::Mapping(mapping), entry.deleted(0));
        Ok(())
    })
}

/// Different files that are mapped and closed, and a child that has the same mappings.
pub(super) fn shared(place: &Place, count: u64, ledger: &mut Ledger) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let mappings = (0..count).map(|_| map(&new_file(place, true)?)).collect::<Result<Vec<_>>>()?;
    let child = Running::fork(ledger, &[], || Ok(()))?;
    let entry = Entry::new(Origin::Open, Kind::Regular, count, By::Mapping);
    let entry = entry.shared_with(std::slice::from_ref(&child));
    ledger.hold(Holder::MappedShared(child, mappings), entry);
    Ok(())
}
