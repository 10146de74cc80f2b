//! Threads that send files to each other; the last owner drops each.

use std::{
    fs::File,
    io::{Read, pipe},
    sync::mpsc,
    thread,
};

fn main() {
    let (sender, receiver) = mpsc::channel();
    let bytes: usize = thread::scope(|scope| {
        for _ in 0..4 {
            let sender = sender.clone();
            scope.spawn(move || {
                for _ in 0..20 {
                    sender.send(File::open("/dev/zero").unwrap()).unwrap();
                }
            });
        }
        drop(sender);
        let read = scope.spawn(move || receiver.iter().map(|mut file| file.read(&mut [0]).unwrap()).sum());
        read.join().unwrap()
    });
    let ends: Vec<_> = (0..20).map(|_| pipe().unwrap()).collect();
    println!("{bytes} bytes, {} pipes", ends.len());
}
