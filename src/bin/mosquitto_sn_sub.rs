//! Subscribes over MQTT-SN.

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    std::process::exit(mosquitto::tools::sn::subscribe::main(&arguments));
}
