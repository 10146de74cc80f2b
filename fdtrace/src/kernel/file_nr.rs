//! `/proc/sys/fs/file-nr`.

/// What the kernel says of the number of handles in the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileNr {
    /// Handles allocated. Up to at least 6.12 this is off by up to a batch (32 or more) for each CPU.
    pub allocated: u64,
    /// The most there may be (`fs.file-max`).
    pub limit: u64,
}

impl FileNr {
    /// Reads it now; `None` when the file is not there or not as expected.
    #[must_use]
    pub fn read() -> Option<Self> {
        parse(&std::fs::read_to_string("/proc/sys/fs/file-nr").ok()?)
    }
}

fn parse(text: &str) -> Option<FileNr> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
    let allocated = numbers.next()?.ok()?;
    let _unused_since_2_6 = numbers.next()?.ok()?;
    Some(FileNr { allocated, limit: numbers.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        assert_eq!(parse("305\t0\t2466170\n"), Some(FileNr { allocated: 305, limit: 2_466_170 }));
        assert_eq!(parse("305"), None);
        assert_eq!(parse("a b c"), None);
    }
}
