//! The broker.

use mosquitto::os::alloc::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    std::process::exit(mosquitto::start::main(&arguments));
}
