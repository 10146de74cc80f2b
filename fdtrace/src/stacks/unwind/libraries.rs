//! The files that a program's loader will map, found before it does: a process that lives but a moment is gone before anybody
//! can look at its mappings, and nobody else may have those files mapped.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    io::Read as _,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use crate::stacks::{
    modules::open_regular,
    reader::{Needed, Reader},
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

/// A program's loader and libraries, and theirs, as far as they are found where loaders look.
pub(in crate::stacks) fn of(program: &Path, reader: &mut Reader) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut met: HashSet<Vec<u8>> = HashSet::new();
    let mut cache = None;
    let mut next = Some(program.to_owned());
    let mut sampled = 0;
    while let Some(path) = next {
        let needed = needed(&path, reader);
        found.extend(needed.loader.map(path_of));
        for name in needed.libraries {
            if found.len() >= MAX_FILES || !met.insert(name.clone()) {
                continue;
            }
            let cache = cache.get_or_insert_with(|| Cache::read(Path::new(CACHE)).unwrap_or_default());
            let folders = needed.folders.iter().map(|folder| beside(folder, &path));
            found.extend(locate(&name, folders, cache));
        }
        next = found.get(sampled).cloned();
        sampled += 1;
    }
    found
}

/// The program that runs a script.
pub(in crate::stacks) fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut line = [0; 256];
    let read = open_regular(script)?.read(&mut line).ok()?;
    let line = line[..read].split(|byte| *byte == b'\n').next()?.strip_prefix(b"#!")?;
    let path = line.trim_ascii().split(u8::is_ascii_whitespace).next()?;
    (path.first() == Some(&b'/')).then(|| PathBuf::from(OsStr::from_bytes(path)))
}

fn locate(name: &[u8], folders: impl Iterator<Item = PathBuf>, cache: &Cache) -> Option<PathBuf> {
    let relative = Path::new(OsStr::from_bytes(name));
    if name.contains(&b'/') {
        return relative.is_file().then(|| relative.to_owned());
    }
    let near = folders.map(|folder| folder.join(relative)).find(|path| path.is_file());
    near.or_else(|| cache.0.get(name).cloned())
        .or_else(|| FOLDERS.iter().map(|folder| Path::new(folder).join(relative)).find(|path| path.is_file()))
}

/// A folder of a run path, where `$ORIGIN` is the folder of the file that has it.
fn beside(folder: &[u8], file: &Path) -> PathBuf {
    let origin = [b"$ORIGIN".as_slice(), b"${ORIGIN}"].iter().find_map(|origin| folder.strip_prefix(*origin));
    let Some(rest) = origin else { return PathBuf::from(OsStr::from_bytes(folder)) };
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    file.parent().unwrap_or(Path::new("/")).join(OsStr::from_bytes(rest))
}

fn needed(program: &Path, reader: &mut Reader) -> Needed {
    open_regular(program).map(|file| reader.needed(&file)).unwrap_or_default()
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// Where the loader has libraries, by their names.
#[derive(Default)]
struct Cache(HashMap<Vec<u8>, PathBuf>);

impl Cache {
    fn read(path: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(MAX_CACHE).read_to_end(&mut bytes).ok()?;
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
        let program = std::env::current_exe().unwrap();
        let mut reader = crate::stacks::Readers::of_test().reader();
        let needed = needed(&program, &mut reader);
        let found = of(&program, &mut reader);
        // A static program has neither.
        assert!(needed.loader.is_none_or(|loader| found.contains(&path_of(loader))), "{found:?}");
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
