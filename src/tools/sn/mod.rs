//! `mosquitto_sn_pub` and `mosquitto_sn_sub`: command-line clients for MQTT-SN 1.2, with options, messages and exit status
//! in the manner of `mosquitto_pub` and `mosquitto_sub`.
//!
//! [`options`] reads the command line, [`link`] joins a socket to the state machine of [`crate::proto::sn::client`], and
//! `publish` and `subscribe` say what to do with it.

mod link;
mod options;
pub mod publish;
pub mod subscribe;
mod trace;

use std::fmt;
use std::io::{self, Write};

use crate::os::errors;
use crate::proto::sn::wire::ReturnCode;

/// The arguments are wrong, a file cannot be read, or there is no gateway.
const USAGE: i32 = 1;
/// The connection was lost.
const LOST: i32 = 7;
/// `-W` ran out.
const TIMED_OUT: i32 = 27;
/// A signal or `-W` before the connection stood.
const TOO_EARLY: i32 = 255;

/// Why a tool ends without having done what was asked: what to print, if anything, and the exit status.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    status: i32,
    text: String,
}

impl Failure {
    fn new(status: i32, text: impl Into<String>) -> Failure {
        Failure { status, text: text.into() }
    }

    /// The connection was there and is not any more.
    fn lost() -> Failure {
        Failure::new(LOST, "Error: The connection was lost.")
    }

    /// CONNACK with a code; the code is the exit status, as with MQTT 3.1.1.
    fn refused(code: ReturnCode) -> Failure {
        Failure::new(i32::from(code.0), format!("Connection error: Connection Refused: {}.", Words(code)))
    }

    fn io(what: &str, error: &io::Error) -> Failure {
        let reason = error.raw_os_error().map_or_else(|| error.to_string(), errors::text);
        Failure::new(USAGE, format!("Error: {what}{reason}."))
    }

    /// Prints the text, unless told to be quiet, and gives the exit status.
    fn report(&self, quiet: bool) -> i32 {
        if !quiet && !self.text.is_empty() {
            complain(&self.text);
        }
        self.status
    }
}

/// A return code in words [SN 5.3.10].
struct Words(ReturnCode);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ReturnCode::ACCEPTED => f.write_str("accepted"),
            ReturnCode::CONGESTION => f.write_str("congestion, try again in a few minutes"),
            ReturnCode::INVALID_TOPIC_ID => f.write_str("invalid topic id"),
            ReturnCode::NOT_SUPPORTED => f.write_str("not allowed or not supported"),
            ReturnCode(other) => write!(f, "unknown reason {other}"),
        }
    }
}

fn complain(line: &str) {
    let _reader_gone = writeln!(io::stderr(), "{line}");
}
