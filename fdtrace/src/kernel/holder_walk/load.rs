//! Loads the programs of the walk.
//!
//! aya's own loader reads all of the kernel's types before it does anything, which takes longer than a walk of twenty
//! thousand descriptors. These programs need of them only the numbers of four functions, so aya's parts are put together
//! here: it parses the object, makes the maps, and puts both together.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use aya::maps::MapData;
use aya_obj::{EbpfSectionKind, Map, Object};

use crate::kernel::{
    bpf::{self, Place},
    error::{Error, Result, system},
    tracer::object,
};

/// An object whose maps are made.
pub(super) struct Loaded {
    object: Object,
    maps: HashMap<String, (Map, MapData)>,
}

impl Loaded {
    /// Makes the maps, with `globals` as the value of the global of that name.
    ///
    /// # Errors
    /// When the object is damaged, or the kernel refuses a map.
    pub(super) fn new(bytes: &[u8], (name, globals): (&str, &[u8])) -> Result<Self> {
        let mut parsed = Object::parse(bytes).map_err(object)?;
        parsed.patch_map_data(HashMap::from([(name, (globals, true))])).map_err(object)?;
        let mut maps = HashMap::new();
        for (name, map) in parsed.maps.drain() {
            let made = MapData::create(map.clone(), &name, None).map_err(object)?;
            if map.section_kind() == EbpfSectionKind::Rodata {
                bpf::write_constants(made.fd().as_fd(), map.data())
                    .map_err(system("the programs' configuration cannot be written"))?;
            }
            maps.insert(name, (map, made));
        }
        let sections: HashSet<usize> = parsed.functions.keys().map(|(section, _)| *section).collect();
        let descriptors =
            maps.iter().map(|(name, (map, made))| (name.as_str(), made.fd().as_fd().as_raw_fd(), map));
        parsed.relocate_maps(descriptors, &sections).map_err(object)?;
        parsed.relocate_calls(&sections).map_err(object)?;
        Ok(Self { object: parsed, maps })
    }

    /// Loads an iterator's program; `function` is the number of the kernel's function of that iterator.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub(super) fn iterator(&self, program: &str, function: u32) -> io::Result<OwnedFd> {
        self.program(program, Place::Iterator(function))
    }

    /// Loads a program that is run by user space.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub(super) fn runnable(&self, program: &str) -> io::Result<OwnedFd> {
        self.program(program, Place::Run)
    }

    fn program(&self, program: &str, place: Place) -> io::Result<OwnedFd> {
        let missing = || io::Error::other("the object has no such program");
        let found = self.object.programs.get(program).ok_or_else(missing)?;
        let code = self.object.functions.get(&found.function_key()).ok_or_else(missing)?;
        bpf::load(&code.instructions, &found.license, place)
    }

    /// A map's descriptor, and how many elements it has.
    ///
    /// # Errors
    /// When the object has no such map, or no descriptor can be had.
    pub(super) fn array(&self, name: &str) -> Result<(OwnedFd, usize)> {
        let entries = self.maps.get(name).map_or(0, |(map, _)| map.max_entries() as usize);
        Ok((self.map(name)?, entries))
    }

    /// A map's descriptor.
    ///
    /// # Errors
    /// When the object has no such map, or no descriptor can be had.
    pub(super) fn map(&self, name: &str) -> Result<OwnedFd> {
        let (_, map) = self.maps.get(name).ok_or_else(|| Error::Object(format!("no map {name}")))?;
        map.fd().as_fd().try_clone_to_owned().map_err(system("a map cannot be shared"))
    }
}
