//! Configuration text: parsing never panics, a fault can be printed, and what was accepted can be finished, used and
//! reloaded.

use mosquitto::config::{self, Config};

/// The input is the text of a file.
pub fn config(data: &[u8]) {
    // Reading a directory would make the run depend on the machine.
    if data.windows(11).any(|word| word == b"include_dir") {
        return;
    }
    let loaded = match Config::parse_str("fuzz.conf", data) {
        Ok(loaded) => loaded,
        Err(error) => {
            let text = error.to_string();
            assert!(text.starts_with("Error: ") && text.contains("fuzz.conf"), "{text}");
            let line = error.locations.first().map_or(0, |place| place.line);
            assert!((1..=data.split(|b| *b == b'\n').count()).contains(&line), "{text}");
            return;
        }
    };
    assert!(loaded.lines.iter().all(|(_, line)| !line.is_empty()));
    let finished = loaded.config.clone().finish(&[1883]);
    let config = finished.config;
    assert!(!config.listeners.is_empty(), "something to listen on");
    for listener in &config.listeners {
        assert_ne!(listener.port, 0);
        let _ = config.anonymous_allowed(listener);
    }
    assert!(config.global.max_packet_size == 0 || config.global.max_packet_size >= 20);

    // The same file again changes nothing, and neither does an empty one and back.
    let (running, notes) = config::take_over(&config, config.clone());
    assert!(notes.is_empty());
    assert_eq!(running, config);
    let (local, _) = config::take_over(&config, Config::local_only(&[1883]));
    assert_eq!(config::take_over(&local, config.clone()).0, config);
}
