//! From the command line to a running broker, in the order an operator can see: arguments, configuration, privileges,
//! umask, background, pid file, log, and then the event loop.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use log::{error, info, warn};

use crate::cli::{self, Action, Arguments, CliError};
use crate::config::{Config, ConfigError, LOCAL_ONLY_LINES, Sources};
use crate::net::{
    AccessError, DatabaseError, EventLoop, ListenError, OpenError, SnFileError, TlsFileError, check_access, check_sn,
    check_tls,
};
use crate::os::errors::describe;
use crate::os::notify::Notifier;
use crate::os::pidfile::PidFile;
use crate::os::signals::{self, Signals};
use crate::os::umask::UmaskError;
use crate::os::users::{self, Identity, UserError};
use crate::os::{daemon, limits, private_file, random, umask};
use crate::{logging, notice};

/// Parts that not every build has, and whether this one does; each is named in a line at start.
const PARTS: [(&str, bool); 5] = [
    ("Bridge", cfg!(feature = "bridge")),
    ("Persistence", cfg!(feature = "persistence")),
    ("TLS", cfg!(feature = "tls")),
    ("TLS-PSK", false),
    ("Websockets", cfg!(feature = "websockets")),
];

/// Why the broker did not start, or stopped on its own. `Display` gives the lines to log.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is not valid.
    Config(ConfigError),
    /// Privileges could not be dropped.
    User(UserError),
    /// `UMASK_SET` is not a mask.
    Umask(UmaskError),
    /// No way to the background.
    Daemon(io::Error),
    /// The pid file cannot be written.
    PidFile(PathBuf, io::Error),
    /// Signals cannot be handled.
    Signals(io::Error),
    /// A password or ACL file cannot be read or is wrong.
    Access(AccessError),
    /// Certificates, keys and what else TLS needs.
    Tls(TlsFileError),
    /// What a listener for MQTT-SN needs.
    Sn(SnFileError),
    /// The file of `--tls-keylog` cannot be used.
    KeyLog(PathBuf, io::Error),
    /// The database cannot be restored.
    Database(DatabaseError),
    /// A listener cannot be opened.
    Listen(ListenError),
    /// The event loop cannot wait for events.
    Poll(io::Error),
}

impl StartError {
    /// The exit status of the process.
    #[must_use]
    pub fn exit_status(&self) -> i32 {
        match self {
            StartError::Daemon(_) | StartError::Signals(_) | StartError::Listen(_) | StartError::Poll(_) => 1,
            StartError::Tls(_) | StartError::KeyLog(..) | StartError::Database(_) => 1,
            StartError::Config(_) | StartError::Umask(_) | StartError::Sn(_) => 3,
            StartError::User(error) => error.exit_status(),
            StartError::Access(error) => error.exit_status(),
            StartError::PidFile(..) => 14,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => error.fmt(f),
            StartError::User(error) => error.fmt(f),
            StartError::Umask(error) => error.fmt(f),
            StartError::Daemon(error) => write!(f, "Error: Unable to go to the background: {}", describe(error)),
            StartError::PidFile(path, error) => {
                write!(f, "Error: Unable to write pid file {}: {}", path.display(), describe(error))
            }
            StartError::Signals(error) => write!(f, "Error: Unable to handle signals: {}", describe(error)),
            StartError::Access(error) => error.fmt(f),
            StartError::Tls(error) => error.fmt(f),
            StartError::Sn(error) => error.fmt(f),
            StartError::KeyLog(path, error) => {
                write!(f, "Error: Unable to open TLS key log file \"{}\": {}", path.display(), describe(error))
            }
            StartError::Database(error) => error.fmt(f),
            StartError::Listen(error) => error.fmt(f),
            StartError::Poll(error) => write!(f, "Error: Unable to wait for events: {}", describe(error)),
        }
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> StartError {
        match error {
            OpenError::Access(error) => StartError::Access(error),
            OpenError::Tls(error) => StartError::Tls(error),
            OpenError::Sn(error) => StartError::Sn(error),
            OpenError::Database(error) => StartError::Database(error),
            OpenError::Listen(error) => StartError::Listen(error),
        }
    }
}

/// The broker from start to end. Takes the arguments behind the program's name and returns the exit status.
///
/// Unlike C Mosquitto 2.1.2, which logs that it terminates whenever it ends, this does so only for a broker that ran.
#[must_use]
pub fn main(args: &[OsString]) -> i32 {
    logging::install();
    let arguments = match cli::parse(args) {
        Ok(arguments) => arguments,
        Err(error @ CliError::Unknown(_)) => {
            let _ = writeln!(io::stderr(), "{error}");
            print(cli::USAGE);
            return CliError::EXIT_STATUS;
        }
        Err(error) => {
            error!("{error}");
            return CliError::EXIT_STATUS;
        }
    };
    let result = match arguments.action {
        Action::Help => {
            print(cli::USAGE);
            Ok(())
        }
        Action::Version => {
            print(cli::VERSION_TEXT);
            Ok(())
        }
        Action::TestConfig => test_config(&arguments),
        Action::Run => run(&arguments),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            for line in error.to_string().lines() {
                error!("{line}");
            }
            error.exit_status()
        }
    }
}

/// Reads the configuration and the files it names for access, TLS and MQTT-SN.
fn test_config(arguments: &Arguments) -> Result<(), StartError> {
    let config = read_config(&sources(arguments))?;
    check_access(&config).map_err(StartError::Access)?;
    check_tls(&config).map_err(StartError::Tls)?;
    check_sn(&config).map_err(StartError::Sn)?;
    info!("Configuration file is OK.");
    Ok(())
}

/// Prints to standard output; a reader that went away is no error.
fn print(text: &str) {
    let mut stdout = io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Everything after the command line, up to the end of the process.
fn run(arguments: &Arguments) -> Result<(), StartError> {
    // First, so that no signal finds the process without a handler, which would end it.
    let signals = Signals::install().map_err(StartError::Signals)?;
    let sources = sources(arguments);
    let config = read_config(&sources)?;
    let environment = users::Environment::of_process();
    match users::drop_privileges(&config.global.user, &environment).map_err(StartError::User)? {
        Identity::Unchanged => {}
        Identity::Root => warn!("Warning: Mosquitto should not be run as root/administrator."),
        Identity::Name(name) => info!("Info: running mosquitto as user: {name}."),
        Identity::Id(id) => info!("Info: running mosquitto as user id: {id}."),
    }
    umask::set_from_environment().map_err(StartError::Umask)?;
    if arguments.daemon {
        daemon::daemonise().map_err(StartError::Daemon)?;
    }
    // Lives until the end of this function, whichever way it ends.
    let _pid_file = match &config.global.pid_file {
        Some(path) => Some(PidFile::write(path).map_err(|error| StartError::PidFile(path.clone(), error))?),
        None => None,
    };
    // A database is restored here: its lines still go to standard error.
    logging::init(&config.global.log, arguments.verbosity);
    greet(&config);
    if let Err(error) = limits::raise_open_files() {
        warn!("Warning: Unable to raise the limit of open files: {}", describe(&error));
    }
    let notifier = Notifier::from_environment().unwrap_or_else(|error| {
        warn!("Warning: The service manager cannot be told about the start: {}", describe(&error));
        None
    });
    let key_log = arguments.tls_keylog.as_deref().map(open_key_log).transpose()?;
    serve(config, sources, signals, notifier, key_log)
}

/// Opens the file of `--tls-keylog`, which nobody else may read: who can reads everything.
fn open_key_log(path: &Path) -> Result<File, StartError> {
    let file = private_file::append(path, false).and_then(|file| {
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others can read it; chmod 0600 is needed"));
        }
        Ok(file)
    });
    let file = file.map_err(|error| StartError::KeyLog(path.into(), error))?;
    notice!("TLS key logging is on: whoever reads {} can read every TLS connection.", path.display());
    notice!("TLS key logging is for debugging only, never for a broker in use.");
    Ok(file)
}

/// The lines that say what was started.
fn greet(config: &Config) {
    info!("{} starting", cli::VERSION);
    match &config.file {
        Some(path) => info!("Config loaded from {}.", path.display()),
        None => info!("Using default config."),
    }
    for (part, available) in PARTS {
        info!("{part} support {}available.", if available { "" } else { "NOT " });
    }
    if private_file::symlinks_allowed() {
        notice!("MOSQUITTO_UNSAFE_ALLOW_SYMLINKS is set: symbolic links to sensitive files are followed.");
    }
    if config.local_only {
        for line in LOCAL_ONLY_LINES {
            warn!("{line}");
        }
    }
}

/// Opens the listeners and runs the event loop until a signal ends it.
fn serve(
    config: Config,
    sources: Sources,
    signals: Signals,
    notifier: Option<Notifier>,
    key_log: Option<File>,
) -> Result<(), StartError> {
    let hash_keys = [random::seed(), random::seed()];
    let mut event_loop = EventLoop::new(config, sources, signals, notifier, hash_keys, key_log)?;
    signals::handle_termination().map_err(StartError::Signals)?;
    info!("{} running", cli::VERSION);
    let result = event_loop.run().map_err(StartError::Poll);
    logging::finish();
    result
}

fn sources(arguments: &Arguments) -> Sources {
    Sources { files: arguments.config_files.clone(), ports: arguments.ports.clone() }
}

/// Reads the configuration files one on top of the other and logs what they have to say.
fn read_config(sources: &Sources) -> Result<Config, StartError> {
    sources.read(logging::tell).map_err(StartError::Config)
}
