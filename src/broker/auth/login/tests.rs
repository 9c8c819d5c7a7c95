//! Fingerprints, waiting, and who stays after a reload.

use super::*;

