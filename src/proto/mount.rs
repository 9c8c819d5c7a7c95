//! `[conf: mount_point]` and `$share`: what a client's filter is to the core.

use std::borrow::Cow;

use crate::config::Listener;
use crate::wire::topic::{TopicError, split_share};

/// Share name, and filter with the mount point before it. Behind a mount point `$share` is an ordinary level, as in C
/// Mosquitto, and the share name may be empty; by the letter (`strict`) neither is so [MQTT-4.8.2-1].
///
/// # Errors
/// [`TopicError::Share`] when what stands behind `$share` is no share name with a filter.
pub fn target<'a>(
    listener: &Listener,
    strict: bool,
    filter: &'a str,
) -> Result<(Option<&'a str>, Cow<'a, str>), TopicError> {
    let mounted = |filter: &'a str| match &listener.mount_point {
        Some(mount) => Cow::Owned(format!("{mount}{filter}")),
        None => Cow::Borrowed(filter),
    };
    if listener.mount_point.is_some() && !strict {
        return Ok((None, mounted(filter)));
    }
    match split_share(filter)? {
        Some(("", _)) if strict => Err(TopicError::Share),
        Some((share, filter)) => Ok((Some(share), mounted(filter))),
        None => Ok((None, mounted(filter))),
    }
}
