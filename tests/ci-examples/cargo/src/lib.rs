//! Reads settings.

use std::{fs::File, io::Read as _, mem};

/// Reads a file, and closes it.
pub fn read(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Reads a file, and forgets to close it.
pub fn read_and_forget(path: &str) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    mem::forget(file);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean() {
        for _ in 0..5 {
            assert!(read("Cargo.toml").unwrap().contains("sample"));
        }
    }

    #[test]
    fn leaking() {
        for _ in 0..5 {
            assert!(read_and_forget("Cargo.toml").unwrap().contains("sample"));
        }
    }
}
