//! Versions of three numbers.

/// A version, as a program says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) micro: u32,
}

impl Version {
    /// `8.2.32`, with anything behind.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut numbers = text.split(|byte| !byte.is_ascii_digit());
        let mut number = || std::str::from_utf8(numbers.next()?).ok()?.parse().ok();
        Some(Self { major: number()?, minor: number()?, micro: number()? })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Option<String> {
        Version::parse(text.as_bytes()).map(|version| version.to_string())
    }

    #[test]
    fn a_version_is_three_numbers() {
        assert_eq!(version("8.2.32\0Expires").as_deref(), Some("8.2.32"));
        assert_eq!(version("8.5.0RC1").as_deref(), Some("8.5.0"));
        assert_eq!(version("3.1.2\0x").as_deref(), Some("3.1.2"));
        assert_eq!(version("2.6.10\0x").as_deref(), Some("2.6.10"));
        for text in ["8.2", "3.1", "", "x.1.2", "8.99999999999.1", "3.99999999999.1"] {
            assert_eq!(version(text), None, "{text}");
        }
    }
}
