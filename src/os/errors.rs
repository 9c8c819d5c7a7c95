//! The system's words for its errors.

/// The text of an error number, as `strerror` has it.
#[must_use]
pub fn text(code: i32) -> String {
    // The library's text with " (os error N)" behind it is the only safe way to the system's own.
    let text = std::io::Error::from_raw_os_error(code).to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(text, _)| text.to_string())
}

/// What to log of an error: the system's words without the number, or the error's own.
#[must_use]
pub fn describe(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_is_left_out() {
        assert_eq!(super::text(libc::EADDRINUSE), "Address already in use");
        let error = std::io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(super::describe(&error), "Permission denied");
        assert_eq!(super::describe(&std::io::Error::other("no file")), "no file");
    }
}
