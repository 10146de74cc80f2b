//! Nodes that count references to each other. "fixed": the way back is weak.

use std::{
    cell::RefCell,
    env,
    fs::File,
    io::Read,
    rc::{Rc, Weak},
};

struct Parent {
    child: RefCell<Option<Rc<Child>>>,
}

struct Child {
    file: File,
    strong: RefCell<Option<Rc<Parent>>>,
    weak: RefCell<Weak<Parent>>,
}

#[inline(never)]
fn new_child() -> Rc<Child> {
    let file = File::open("/dev/zero").unwrap(); // LEAK
    Rc::new(Child { file, strong: RefCell::default(), weak: RefCell::default() })
}

fn main() {
    let fixed = env::args().any(|word| word == "fixed");
    let mut bytes = 0;
    for _ in 0..20 {
        let parent = Rc::new(Parent { child: RefCell::default() });
        let child = new_child();
        if fixed {
            *child.weak.borrow_mut() = Rc::downgrade(&parent);
        } else {
            *child.strong.borrow_mut() = Some(parent.clone());
        }
        bytes += (&child.file).read(&mut [0]).unwrap();
        *parent.child.borrow_mut() = Some(child);
    }
    println!("{bytes} bytes");
}
