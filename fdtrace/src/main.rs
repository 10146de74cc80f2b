fn main() {
    let mut k = fdtrace::kernel::Kernel::inspect().unwrap();
    println!("{} {}", k.release, k.preemption);
    for r in fdtrace::kernel::survey(&mut k).unwrap() {
        println!("{:#?}", r);
    }
}
