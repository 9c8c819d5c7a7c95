//! Reads the files that listeners for MQTT-SN name: predefined topics and lists of clients.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::{Config, Listener, Protocol};
use crate::os::{errors, private_file};
use crate::proto::sn::{ClientList, Door, FileError, Predefined};

/// Why a file could not be used. `Display` gives the lines to log.
#[derive(Debug)]
pub enum SnFileError {
    /// It cannot be opened; the option that names it.
    Open(&'static str, PathBuf, io::Error),
    /// A line is wrong.
    Line(&'static str, PathBuf, FileError),
    /// The options of the configuration contradict each other.
    Topic(u16, String),
}

impl fmt::Display for SnFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnFileError::Open(option, path, error) => {
                let (path, why) = (path.display(), errors::describe(error));
                write!(f, "Error: Unable to open {option} \"{path}\".\nError: {why}")
            }
            SnFileError::Line(option, path, error) => {
                let (path, line, what) = (path.display(), error.line, &error.what);
                write!(f, "Error: Invalid line in {option}: {what}.\nError found at {path}:{line}.")
            }
            SnFileError::Topic(id, what) => {
                write!(f, "Error: Invalid 'mqttsn_predefined_topic' value ({id}): {what}.")
            }
        }
    }
}

/// A door for each listener with `protocol mqtt-sn`, in the order of the configuration.
///
/// # Errors
/// The first file that cannot be read or is wrong.
pub(super) fn load(config: &Config) -> Result<Vec<Option<Door>>, SnFileError> {
    config
        .listeners
        .iter()
        .map(|listener| match listener.protocol {
            Protocol::MqttSn => door(config, listener).map(Some),
            _ => Ok(None),
        })
        .collect()
}

fn door(config: &Config, listener: &Listener) -> Result<Door, SnFileError> {
    let (global, own) = (&config.global.sn, &listener.sn);
    let mut predefined = Predefined::default();
    for path in global.predefined_topics_file.iter().chain(&own.predefined_topics_file) {
        let option = "mqttsn_predefined_topics_file";
        let text = read(path).map_err(|error| SnFileError::Open(option, path.clone(), error))?;
        predefined.read(&text).map_err(|error| SnFileError::Line(option, path.clone(), error))?;
    }
    for (id, topic) in global.predefined_topics.iter().chain(&own.predefined_topics) {
        predefined.add("*", *id, topic).map_err(|what| SnFileError::Topic(*id, what))?;
    }
    let clients = own.clients_file.as_deref().map(clients).transpose()?;
    Ok(Door { listener: listener.clone(), anonymous: config.anonymous_allowed(listener), predefined, clients })
}

fn clients(path: &Path) -> Result<ClientList, SnFileError> {
    let option = "mqttsn_clients_file";
    let text = read(path).map_err(|error| SnFileError::Open(option, path.into(), error))?;
    let (list, warnings) = ClientList::parse(&text).map_err(|error| SnFileError::Line(option, path.into(), error))?;
    for warning in warnings {
        log::warn!("Warning: {} ({}:{})", warning.what, path.display(), warning.line);
    }
    Ok(list)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    private_file::open(path, private_file::symlinks_allowed())?.read_to_end(&mut text)?;
    Ok(text)
}
