//! The files that a program's loader will map, found before it does: a process that lives but a moment is gone before anybody
//! can look at its mappings, and nobody else may have those files mapped.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    io::Read as _,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::Mode,
};

use crate::{
    runtimes,
    stacks::{
        modules,
        reader::{Needed, Reader},
    },
};

/// The files of one program.
const MAX_FILES: usize = 256;
/// What is read of the loader's cache, which has about a hundred bytes for each library of a machine.
const MAX_CACHE: u64 = 16 << 20;

/// Where the loader looks last.
const FOLDERS: [&str; 6] =
    ["/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"];
const CACHE: &str = "/etc/ld.so.cache";

/// The cache begins so; numbers of four bytes follow: how many entries, and how many bytes of names.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const CACHE_HEADER: usize = 48;
/// Flags, where the name is, where the path is, and twelve bytes that do not matter here.
const CACHE_ENTRY: usize = 24;
/// `FLAG_ELF_LIBC6 | FLAG_X8664_LIB64`
const CACHE_FLAGS: u32 = 0x0303;

/// A program, by the file that is run.
pub(in crate::stacks) struct Program {
    pub(in crate::stacks) itself: Found,
    /// The path in its root.
    path: PathBuf,
    root: Root,
}

/// A file, and where it can be opened again.
pub(in crate::stacks) struct Found {
    pub(in crate::stacks) key: u64,
    pub(in crate::stacks) file: File,
    pub(in crate::stacks) path: PathBuf,
}

impl Program {
    /// What a process runs that began with this path, or would if it were not gone.
    pub(in crate::stacks) fn of(pid: u32, path: &Path) -> Option<Self> {
        Self::running(pid).or_else(|| Self::at(path))
    }

    /// The key of what [`Self::of`] finds, at a hundredth of the cost, unless it is a script that is gone.
    pub(in crate::stacks) fn key_of(pid: u32, path: &Path) -> Option<u64> {
        modules::path_key(format!("/proc/{pid}/exe")).or_else(|| modules::path_key(path))
    }

    fn running(pid: u32) -> Option<Self> {
        let root = Root::of(pid)?;
        let file = modules::open_regular(Path::new(&format!("/proc/{pid}/exe")))?;
        let seen = modules::path_of(&file).read_link().ok()?;
        let inside = seen.strip_prefix(&root.seen).map(|inside| Path::new("/").join(inside));
        Some(Self { itself: root.found(file)?, path: inside.unwrap_or(seen), root })
    }

    /// The program at a path of ours, or the one that runs the script there.
    pub(in crate::stacks) fn at(path: &Path) -> Option<Self> {
        let root = Root::own()?;
        let path = path.canonicalize().ok()?;
        let path = interpreter(&root, &path).unwrap_or(path);
        Some(Self { itself: root.found(root.open(&path)?)?, path, root })
    }

    /// Its loader and libraries, and theirs, as far as they are found where loaders look.
    pub(in crate::stacks) fn libraries(&self, known: &mut Known, reader: &mut Reader) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let mut places: Vec<PathBuf> = Vec::new();
        let mut met: HashSet<Vec<u8>> = HashSet::new();
        let cache = known.cache(&self.root);
        let (mut next, mut sampled) = (Some((&self.itself, &*self.path)), 0);
        while let Some((file, path)) = next {
            let needed = known.needed(file, reader);
            let folders: Vec<PathBuf> = needed.folders.iter().map(|folder| beside(folder, path)).collect();
            let mut all: Vec<PathBuf> = needed.loader.iter().cloned().map(path_of).collect();
            for name in &needed.libraries {
                if found.len() + all.len() < MAX_FILES && met.insert(name.clone()) {
                    all.extend(locate(name, &folders, &cache, &self.root));
                }
            }
            all.extend(loaded_later(path).filter(|path| self.root.open(path).is_some()));
            for path in all {
                let file = self.root.open(&path).and_then(|file| self.root.found(file));
                if let Some(file) = file {
                    found.push(file);
                    places.push(path);
                }
            }
            next = found.get(sampled).map(|found| (found, &*places[sampled]));
            sampled += 1;
        }
        found
    }
}

/// The most files of which it is remembered what they need.
const MAX_KNOWN: usize = 4096;

/// What files need, and where the loader has libraries: many programs need the same ones.
#[derive(Default)]
pub(in crate::stacks) struct Known {
    needed: HashMap<u64, Arc<Needed>>,
    /// The last cache, by its file.
    cache: Option<(u64, Arc<Cache>)>,
}

impl Known {
    fn needed(&mut self, file: &Found, reader: &mut Reader) -> Arc<Needed> {
        if let Some(known) = self.needed.get(&file.key) {
            return Arc::clone(known);
        }
        // Whoever was late may be in time the next time.
        let Some(needed) = reader.needed(&file.file).map(Arc::new) else { return Arc::default() };
        if self.needed.len() >= MAX_KNOWN {
            self.needed.clear();
        }
        self.needed.insert(file.key, Arc::clone(&needed));
        needed
    }

    fn cache(&mut self, root: &Root) -> Arc<Cache> {
        let Some(file) = root.open(Path::new(CACHE)) else { return Arc::default() };
        let Some(key) = modules::file_key(&file) else { return Arc::default() };
        match &self.cache {
            Some((known, cache)) if *known == key => Arc::clone(cache),
            _ => {
                let cache = Arc::new(Cache::read(file).unwrap_or_default());
                self.cache = Some((key, Arc::clone(&cache)));
                cache
            }
        }
    }
}

/// What a library will load by itself.
fn loaded_later(library: &Path) -> impl Iterator<Item = PathBuf> {
    let name = library.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let folder = library.parent().unwrap_or(Path::new("/")).to_owned();
    let near = move |later: &&str| [folder.join(later), folder.join("..").join(later)];
    runtimes::loaded_later(name).iter().flat_map(near)
}

/// The program that runs a script.
fn interpreter(root: &Root, script: &Path) -> Option<PathBuf> {
    let mut line = [0; 256];
    let read = root.open(script)?.read(&mut line).ok()?;
    let line = line[..read].split(|byte| *byte == b'\n').next()?.strip_prefix(b"#!")?;
    let path = line.trim_ascii().split(u8::is_ascii_whitespace).next()?;
    (path.first() == Some(&b'/')).then(|| PathBuf::from(OsStr::from_bytes(path)))
}

fn locate(name: &[u8], folders: &[PathBuf], cache: &Cache, root: &Root) -> Option<PathBuf> {
    let relative = Path::new(OsStr::from_bytes(name));
    let is_there = |path: &PathBuf| root.open(path).is_some();
    if name.contains(&b'/') {
        return Some(relative.to_owned()).filter(is_there);
    }
    let near = folders.iter().map(|folder| folder.join(relative)).find(is_there);
    near.or_else(|| cache.0.get(name).cloned())
        .or_else(|| FOLDERS.iter().map(|folder| Path::new(folder).join(relative)).find(is_there))
}

/// The folder that a process's paths begin at, also when the process is gone.
pub(in crate::stacks) struct Root {
    folder: File,
    /// As it is seen from here; `/` in another mount namespace.
    seen: PathBuf,
    pid: u32,
}

impl Root {
    pub(in crate::stacks) fn of(pid: u32) -> Option<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let path = format!("/proc/{pid}/root");
        let folder = nix::fcntl::open(path.as_str(), flags, Mode::empty()).ok()?.into();
        let seen = modules::path_of(&folder).read_link().ok()?;
        Some(Self { folder, seen, pid })
    }

    pub(in crate::stacks) fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// A regular file of it. No link leads out.
    pub(in crate::stacks) fn open(&self, path: &Path) -> Option<File> {
        let how =
            OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let place = openat2(&self.folder, path, how).ok()?;
        modules::open_regular(&modules::path_of(&place.into()))
    }

    /// A file of it by its key, if it can be opened again: it is seen from here, or from the process.
    fn found(&self, file: File) -> Option<Found> {
        let key = modules::file_key(&file)?;
        let seen = modules::path_of(&file).read_link().ok()?;
        let mut inside = PathBuf::from(format!("/proc/{}/root", self.pid));
        inside.extend(seen.components().skip(1));
        let is_it = |path: &PathBuf| {
            modules::open_regular(path).and_then(|file| modules::file_key(&file)) == Some(key)
        };
        let path = [seen, inside].into_iter().find(is_it)?;
        Some(Found { key, file, path })
    }
}

/// A folder of a run path, where `$ORIGIN` is the folder of the file that has it.
fn beside(folder: &[u8], file: &Path) -> PathBuf {
    let origin = [b"$ORIGIN".as_slice(), b"${ORIGIN}"].iter().find_map(|origin| folder.strip_prefix(*origin));
    let Some(rest) = origin else { return PathBuf::from(OsStr::from_bytes(folder)) };
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    file.parent().unwrap_or(Path::new("/")).join(OsStr::from_bytes(rest))
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// Where the loader has libraries, by their names.
#[derive(Default)]
struct Cache(HashMap<Vec<u8>, PathBuf>);

impl Cache {
    fn read(file: File) -> Option<Self> {
        let mut bytes = Vec::new();
        file.take(MAX_CACHE).read_to_end(&mut bytes).ok()?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        // Older loaders' entries may come before.
        let start = bytes.windows(MAGIC.len()).position(|window| window == MAGIC)?;
        let bytes = &bytes[start..];
        let number = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let name = |at: u32| bytes.get(at as usize..)?.split(|byte| *byte == 0).next();
        let entries = bytes.get(CACHE_HEADER..)?.len() / CACHE_ENTRY;
        let mut paths = HashMap::new();
        for entry in 0..entries.min(number(MAGIC.len())? as usize) {
            let at = CACHE_HEADER + entry * CACHE_ENTRY;
            if number(at)? != CACHE_FLAGS {
                continue;
            }
            let (Some(key), Some(path)) = (name(number(at + 4)?), name(number(at + 8)?)) else { continue };
            // The first is the one for this machine.
            paths.entry(key.to_vec()).or_insert_with(|| PathBuf::from(OsStr::from_bytes(path)));
        }
        Some(Self(paths))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_leads_to_its_loader_and_its_libraries() {
        let path = std::env::current_exe().unwrap();
        let mut reader = crate::stacks::Readers::of_test().reader();
        let (program, running) =
            (Program::at(&path).unwrap(), Program::of(std::process::id(), &path).unwrap());
        assert_eq!((program.itself.key, &program.itself.path), (running.itself.key, &running.itself.path));
        let needed = reader.needed(&program.itself.file).unwrap();
        let found: Vec<PathBuf> = program
            .libraries(&mut Known::default(), &mut reader)
            .into_iter()
            .map(|found| found.path)
            .collect();
        // A static program has neither.
        let loader = needed.loader.map(|loader| path_of(loader).canonicalize().unwrap());
        assert!(loader.is_none_or(|loader| found.contains(&loader)), "{found:?}");
        assert!(found.len() >= needed.libraries.len(), "{found:?}");
        assert!(found.iter().all(|path| path.is_file()), "{found:?}");
    }

    #[test]
    fn a_cache_has_paths_by_names() {
        let mut bytes = b"an older one; glibc-ld.so.cache1.1".to_vec();
        let names = b"liba.so.1\0/first/liba.so.1\0/second/liba.so.1\0";
        let start = u32::try_from(CACHE_HEADER + 3 * CACHE_ENTRY).expect("small");
        bytes.extend(
            [3, u32::try_from(names.len()).expect("small")].iter().flat_map(|number| number.to_ne_bytes()),
        );
        bytes.extend([0; CACHE_HEADER - 28]);
        for (flags, path) in [(0x0803, 27), (CACHE_FLAGS, 10), (CACHE_FLAGS, 27)] {
            let words = [flags, start, start + path, 0, 0, 0];
            bytes.extend(words.iter().flat_map(|word: &u32| word.to_ne_bytes()));
        }
        bytes.extend(names);
        let cache = Cache::parse(&bytes).unwrap();
        assert_eq!(cache.0.get(b"liba.so.1".as_slice()), Some(&PathBuf::from("/first/liba.so.1")));
        assert_eq!(cache.0.len(), 1);
        assert!(Cache::parse(b"nothing").is_none());
        for length in 0..bytes.len() {
            let _ = Cache::parse(&bytes[..length]);
        }
    }

    #[test]
    fn a_run_path_may_begin_where_its_file_is() {
        let file = Path::new("/opt/x/bin/program");
        assert_eq!(beside(b"$ORIGIN/../lib", file), Path::new("/opt/x/bin/../lib"));
        assert_eq!(beside(b"${ORIGIN}", file), Path::new("/opt/x/bin/"));
        assert_eq!(beside(b"/usr/local/lib", file), Path::new("/usr/local/lib"));
    }
}
