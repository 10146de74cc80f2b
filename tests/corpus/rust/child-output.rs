//! Starts itself with pipes for its output. "kept": the pipes of children that have ended are kept in a list that lives as
//! long as the program.

use std::{
    env,
    io::Read,
    process::{Child, Command, Stdio},
    sync::Mutex,
};

static ENDED: Mutex<Vec<Child>> = Mutex::new(Vec::new());

#[inline(never)]
fn start() -> Child {
    let program = env::current_exe().unwrap();
    Command::new(program).arg("child").stdout(Stdio::piped()).spawn().unwrap() // LEAK
}

fn main() {
    if env::args().any(|word| word == "child") {
        println!("hello");
        return;
    }
    let kept = env::args().any(|word| word == "kept");
    let mut text = String::new();
    for _ in 0..12 {
        let mut child = start();
        child.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        if kept {
            ENDED.lock().unwrap().push(child);
        }
    }
    println!("{} bytes", text.len());
}
