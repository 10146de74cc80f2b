//! `fdtrace`: finds leaked open files on running Linux kernels.

use std::process::ExitCode;

fn main() -> ExitCode {
    fdtrace::cli::main()
}
