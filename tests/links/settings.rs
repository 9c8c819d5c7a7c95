//! How much is done: a little in `make test`, what was promised in `make soak`.

/// True with `LINKS_FULL` set: full counts and times.
pub(crate) fn full() -> bool {
    std::env::var_os("LINKS_FULL").is_some()
}

/// How often a link is cut.
pub(crate) fn cuts() -> usize {
    if full() { 200 } else { 5 }
}

/// Whether our broker keeps sessions over a restart.
pub(crate) fn persists() -> bool {
    false
}
