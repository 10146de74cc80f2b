//! What `vm-init`, PID 1 of the virtual machines, and the host that boots them say to each other.
//!
//! [`COMMANDS`] holds one [`Command`] on each line. What commands write goes to a serial port of its own, where lines that begin
//! with [`MARKER`] are a [`Message`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The file of the commands, in the guest.
pub const COMMANDS: &str = "/vm-commands";
/// Begins the lines that `vm-init` writes itself.
pub const MARKER: &str = "@vm-init ";

/// A command for the guest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Command {
    /// What the host calls it.
    pub label: String,
    /// Its environment, besides PATH and the like.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The program and its arguments.
    pub argv: Vec<String>,
}

/// What `vm-init` says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Message {
    /// A command begins.
    Start {
        /// Its label.
        start: String,
    },
    /// It has ended.
    End {
        /// Its label.
        end: String,
        /// Its exit status, as a shell has it.
        status: i32,
    },
    /// All have ended.
    Done {
        /// Always.
        done: bool,
    },
}
