//! Reading a secret from standard input without showing it.

use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once the terminal's settings are saved in [`SAVED`], until they are restored.
static HIDDEN: AtomicBool = AtomicBool::new(false);
/// Written before `HIDDEN` is set, and only read while it is.
static mut SAVED: std::mem::MaybeUninit<libc::termios> = std::mem::MaybeUninit::uninit();

/// Prints `prompt` on standard output and reads one line, without its end, from standard input. Typed on a terminal the
/// line is not shown; SIGINT and SIGTERM then restore the terminal and end the process with status 0.
///
/// # Errors
/// What the system says, or `UnexpectedEof` when there is no line.
pub fn read_secret(prompt: &str) -> io::Result<Vec<u8>> {
    let mut stdout = io::stdout();
    // First: what is typed before is thrown away, and whoever waits for the prompt types at once.
    let hidden = hide();
    let shown = stdout.write_all(prompt.as_bytes()).and_then(|()| stdout.flush());
    let mut line = Vec::new();
    let result = shown.and_then(|()| io::stdin().lock().read_until(b'\n', &mut line));
    if hidden {
        restore();
    }
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    if result? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        line.pop();
    }
    Ok(line)
}

/// Switches echo off; false when standard input is no terminal.
fn hide() -> bool {
    let mut settings = std::mem::MaybeUninit::<libc::termios>::uninit();
    // SAFETY: the pointer is to room for one `termios`, which the call fills when it returns 0.
    if unsafe { libc::tcgetattr(libc::STDIN_FILENO, settings.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: filled by the successful call above.
    let saved = unsafe { settings.assume_init() };
    let mut silent = saved;
    silent.c_lflag &= !libc::ECHO;
    // SAFETY: `HIDDEN` is false, so no handler reads `SAVED`; only the one thread of a tool comes here.
    unsafe { (&raw mut SAVED).write(std::mem::MaybeUninit::new(saved)) };
    HIDDEN.store(true, Ordering::SeqCst);
    let handler: extern "C" fn(libc::c_int) = restore_and_exit;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only calls functions that are safe in a signal handler.
        unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
    }
    // SAFETY: `silent` is a whole `termios`.
    unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSAFLUSH, &raw const silent) == 0 }
}

fn restore() {
    if HIDDEN.swap(false, Ordering::SeqCst) {
        // SAFETY: `SAVED` was written before `HIDDEN` was set, and is not written while it is.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSAFLUSH, (&raw const SAVED).cast()) };
    }
}

extern "C" fn restore_and_exit(_signal: libc::c_int) {
    restore();
    // SAFETY: `_exit` may be called anywhere.
    unsafe { libc::_exit(0) }
}
