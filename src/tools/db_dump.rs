//! `mosquitto_db_dump`: shows what a `mosquitto.db` holds, as text, as figures or as JSON.
//!
//! Unlike C Mosquitto's tool it goes on behind a broken chunk where it can, and says on standard error where the file is
//! broken or odd. Its `--json` holds the store ids of client messages and every property, which that of 2.1.2 does not.

mod full;
mod json;
mod stats;
mod text;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::os::errors;
use crate::persist::VERSION;
use crate::persist::chunk::Chunk;
use crate::persist::fault::{Damage, Fault, Findings, Oddity};
use crate::persist::read::{Item, Reader, Source, SourceError};

const USAGE: &str = "mosquitto_db_dump shows what a mosquitto persistence file holds.

Usage: mosquitto_db_dump [--stats | --client-stats | --json | --json-full] FILE

 --stats        : how many chunks of each kind there are.
 --client-stats : number and bytes of the subscriptions and queued messages of each client.
 --json         : the content as JSON, as mosquitto 2.1 writes it.
 --json-full    : all that can be known of the file as JSON: places, order, defects and damage too.

See https://mosquitto.org/ for more information.
";

/// What to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Text,
    Stats,
    ClientStats,
    Json,
    JsonFull,
}

/// What is known of the file besides its chunks.
struct Facts<'a> {
    crc: u32,
    version: u32,
    damage: &'a [Damage],
    findings: &'a Findings,
}

/// Takes the chunks one by one and writes what the mode is about.
trait View {
    /// After the header was read.
    fn start(&mut self, _out: &mut dyn Write, _crc: u32, _version: u32) -> io::Result<()> {
        Ok(())
    }

    /// For each chunk, in the order of the file.
    fn chunk(&mut self, out: &mut dyn Write, item: &Item<'_>) -> io::Result<()>;

    /// At the end; of a damaged file only if [`View::shows_damaged`].
    fn finish(&mut self, _out: &mut dyn Write, _facts: &Facts<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Whether the end of a damaged file is of use.
    fn shows_damaged(&self) -> bool {
        false
    }
}

/// The tool from start to end. Takes the arguments behind the program's name and returns the exit status.
#[must_use]
pub fn main(args: &[OsString]) -> i32 {
    let (mode, file) = match args {
        [help] if help == "--help" => {
            let _reader_gone = io::stdout().write_all(USAGE.as_bytes());
            return 0;
        }
        [file] => (Some(Mode::Text), file),
        [mode, file] => (mode_of(mode), file),
        _ => (None, &OsString::new()),
    };
    let Some(mode) = mode else {
        complain(USAGE.trim_end());
        return 1;
    };
    let Ok(source) = File::open(file) else {
        complain(&format!("Error: Unable to open {}", Path::new(file).display()));
        // So does C Mosquitto's tool, and a script may run before the first save.
        return 0;
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut complaints = Vec::new();
    let status = run(mode, source, &mut out, &mut complaints);
    let flushed = out.flush();
    complaints.iter().for_each(|line| complain(line));
    match (status, flushed) {
        (Ok(status), Ok(())) => status,
        // Whoever read the output has seen enough.
        (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        (Err(error), _) | (_, Err(error)) => {
            complain(&format!("Error: {}.", errors::describe(&error)));
            1
        }
    }
}

fn complain(line: &str) {
    let _reader_gone = writeln!(io::stderr(), "{line}");
}

fn mode_of(word: &OsString) -> Option<Mode> {
    Some(match word.to_str()? {
        "--stats" => Mode::Stats,
        "--client-stats" => Mode::ClientStats,
        "--json" => Mode::Json,
        "--json-full" => Mode::JsonFull,
        _ => return None,
    })
}

/// Shows the file `from`; lines for standard error go to `complaints`. Returns the exit status.
fn run(mode: Mode, from: impl io::Read, out: &mut dyn Write, complaints: &mut Vec<String>) -> io::Result<i32> {
    let mut view: Box<dyn View> = match mode {
        Mode::Text => Box::new(text::Text),
        Mode::Stats => Box::new(stats::Stats::default()),
        Mode::ClientStats => Box::new(stats::ClientStats::default()),
        Mode::Json => Box::new(json::Dump::default()),
        Mode::JsonFull => Box::new(full::Full::default()),
    };
    let mut source = Source::with(Reader::new().accept_newer(), from);
    match source.read_header() {
        Ok(()) => {}
        Err(SourceError::Io(error)) => return Err(error),
        Err(SourceError::Damage(damage)) => {
            complaints.push(match damage.fault {
                Fault::Foreign => "Error: Unrecognised file format.".into(),
                fault => format!("Error: {fault}."),
            });
            return Ok(1);
        }
    }
    let (crc, version) = (source.reader().crc(), source.reader().version());
    view.start(out, crc, version)?;
    let mut damage = Vec::new();
    loop {
        match source.next_item() {
            Ok(Some(item)) => {
                if let Chunk::Unknown(number) = item.chunk {
                    complaints.push(format!(
                        "Warning: Unsupported chunk \"{number}\" of length {} in persistent database file at position \
                         {}. Ignoring.",
                        item.length, item.offset
                    ));
                }
                view.chunk(out, &item)?;
            }
            Ok(None) => break,
            Err(SourceError::Damage(found)) => damage.push(found),
            Err(SourceError::Io(error)) => return Err(error),
        }
    }
    let findings = source.reader().findings();
    if damage.is_empty() || view.shows_damaged() {
        view.finish(out, &Facts { crc, version, damage: &damage, findings })?;
    }
    let odd = findings.list().iter().filter(|finding| !matches!(finding.what, Oddity::UnknownType(_)));
    complaints.extend(odd.map(|finding| format!("Warning: {finding}.")));
    let more = findings.count() - findings.list().len() as u64;
    if more > 0 {
        complaints.push(format!("Warning: {more} more of the kind."));
    }
    complaints.extend(damage.iter().map(|damage| format!("Error: {damage}.")));
    if !damage.is_empty() {
        complaints.push("Error: Corrupt persistent database.".into());
    }
    Ok(i32::from(!damage.is_empty()))
}

/// What C Mosquitto's tool says of a version from the future.
fn newer(version: u32) -> Option<&'static str> {
    (version > VERSION)
        .then_some("Warning: mosquitto_db_dump does not support this DB version, continuing but expecting errors.")
}
