//! A connection that was taken over: what a container writes, and what is typed for it.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{ReadHalf, WriteHalf};

/// A connection in both directions.
pub struct Hijacked {
    /// What comes.
    pub reader: ReadHalf<TokioIo<Upgraded>>,
    /// What goes; shutting it down says that nothing more does.
    pub writer: WriteHalf<TokioIo<Upgraded>>,
    /// Whether the outputs come in frames, if the daemon says so.
    pub framed: Option<bool>,
}

impl Hijacked {
    /// Both directions of a connection.
    pub fn new(upgraded: Upgraded, framed: Option<bool>) -> Self {
        let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
        Self { reader, writer, framed }
    }
}
