//! WebSockets in a build without them: no connection has such a stage. What the real one offers is the same.

/// What a listener says about upgrades.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The most bytes that the head of a request may have `[conf: websockets_headers_size]`.
    pub max_head: usize,
    /// The values allowed in `Origin`; empty is any `[conf: websockets_origin]`.
    pub origins: &'a [String],
}

/// Why a stage wants the connection to end. What the peer is told waits in its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client sent a close frame.
    Closed,
    /// No request, or not one for an upgrade to a WebSocket with MQTT.
    BadUpgrade,
    /// From a page that may not.
    WrongOrigin,
    /// Frames that break a rule.
    BadFrame,
    /// The client asked for something else than a WebSocket and has it.
    Answered,
}

/// From the HTTP request on: the upgrade, then frames.
#[derive(Debug)]
pub enum Stage {}

impl Stage {
    /// A stage for a new connection; `None` in a build without WebSockets.
    #[must_use]
    pub fn new() -> Option<Box<Stage>> {
        None
    }

    /// Takes input, unmasks it in place and appends the endpoint's bytes to `plain`: never more than came. The answer to
    /// the request, pongs and the like go to the output, of which an unread part stays below a few KiB whatever comes in.
    ///
    /// # Errors
    /// How the connection ends. `plain` has what came before, and nothing is taken any more.
    pub fn on_bytes(&mut self, _: &mut [u8], _: &Options<'_>, _: &mut Vec<u8>) -> Result<(), End> {
        match *self {}
    }

    /// True once the upgrade is done.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match *self {}
    }

    /// The endpoint has `waiting` bytes: returns how many of them follow [`Stage::output`] in the frame that is under way,
    /// and begins one when there is none. 0 before the upgrade and after the close.
    pub fn frame(&mut self, _waiting: usize) -> usize {
        match *self {}
    }

    /// What goes out before the endpoint's bytes of the present frame; empty when those come next. Control frames wait
    /// within the stage until the frame is complete.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        match *self {}
    }

    /// So many bytes went out: of the output first, then of the endpoint's bytes of the present frame. Returns how many
    /// were the endpoint's.
    pub fn advance(&mut self, _: usize) -> usize {
        match *self {}
    }

    /// Says goodbye by a close frame, if the upgrade is done and no other was sent. Everything else has gone out.
    pub fn close(&mut self) {
        match *self {}
    }
}
