//! Frames of stacks.

use serde::{Deserialize, Serialize};

use super::Runtime;

/// A frame of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KernelFrame {
    /// The function, or the bare address where kallsyms does not know it.
    pub symbol: String,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// A frame of a process: native code, or a script.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct UserFrame {
    /// What runs the script that this frame is of; native frames do not have the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// The function, where the module has a symbol for it; of a script the qualified name, where the runtime has that.
    pub symbol: Option<String>,
    /// The module's path as the process sees it; `None` where no file is mapped, and of a script.
    pub module: Option<String>,
    /// The source file, where debug information names it; of a script as the runtime has it.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// The column of the call in the line, from 1 on, in UTF-16; of scripts only, and only where it is certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The function was inlined into the next frame.
    pub inlined: bool,
    /// The function's name is from the process's own perf map (`/tmp/perf-PID.map`), which nothing but the process answers for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub perf_map: bool,
    /// The module's build-id in hexadecimal.
    pub build_id: Option<String>,
    /// Offset in the module's file; without a module the address in the process.
    pub offset: u64,
}

/// Stands between frames that work on a request and those that submitted it.
const SUBMISSION: &str = "[submitted by]";

impl UserFrame {
    /// No call: the frames behind it submitted what those before it work on.
    #[must_use]
    pub fn submission() -> Self {
        Self { symbol: Some(SUBMISSION.to_owned()), ..Self::default() }
    }

    /// Whether it is that.
    #[must_use]
    pub fn is_submission(&self) -> bool {
        self.module.is_none() && self.runtime.is_none() && self.symbol.as_deref() == Some(SUBMISSION)
    }

    /// Bytes of memory that one takes.
    pub(crate) fn weight(&self) -> usize {
        let texts = [&self.symbol, &self.module, &self.build_id, &self.file];
        size_of::<Self>() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }

    /// The name of the module's file, without its folder.
    #[must_use]
    pub fn module_name(&self) -> Option<&str> {
        self.module.as_deref().map(|path| path.rsplit('/').next().unwrap_or(path))
    }
}
