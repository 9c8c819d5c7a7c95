//! What this machine is called.

/// The host name; `localhost` when the system does not say. What is no UTF-8 in it is replaced.
#[must_use]
pub fn get() -> String {
    let mut name = [0u8; 256];
    // SAFETY: the buffer is as long as it is said to be, and stays where it is during the call.
    let result = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len()) };
    let text = name.split(|byte| *byte == 0).next().unwrap_or_default();
    if result != 0 || text.is_empty() { "localhost".into() } else { String::from_utf8_lossy(text).into_owned() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_what_the_system_says() {
        let said = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(super::get(), said.trim_end());
    }
}
