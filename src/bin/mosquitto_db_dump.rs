//! Shows what a `mosquitto.db` holds.

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    std::process::exit(mosquitto::tools::db_dump::main(&arguments));
}
