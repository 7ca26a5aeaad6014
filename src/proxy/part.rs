//! A part of an answer on its way to the client, counted until it is gone. HTTP/1 is told by its flush that all is gone; what a stream of
//! HTTP/2 was handed may wait in h2 for a window, while everything else is flushed, so there each part counts for itself.

use std::rc::Rc;

use bytes::{Buf, Bytes};

use super::client::{Connection, Protocol};

/// A part of an answer.
#[derive(Debug)]
pub(super) struct Part {
    bytes: Bytes,
    counted: Option<Counted>,
}

/// Its place in what waits for the client, until this is dropped.
#[derive(Debug)]
struct Counted {
    connection: Rc<Connection>,
    stream: u32,
    /// As many as have not gone out.
    bytes: usize,
}

impl Part {
    pub(super) fn of(connection: &Rc<Connection>, bytes: Bytes) -> Self {
        let counted = match connection.protocol.get() {
            Protocol::Http1 => {
                connection.backlog.hand(bytes.len());
                None
            }
            Protocol::Http2 => {
                connection.backlog.hand_to_stream(bytes.len());
                connection.windows.given();
                Some(Counted {
                    connection: Rc::clone(connection),
                    stream: connection.windows.current(),
                    bytes: bytes.len(),
                })
            }
        };
        Self { bytes, counted }
    }
}

impl Counted {
    fn went(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.connection.part_went(self.stream, bytes);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.connection.backlog.gone(self.bytes);
    }
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(counted) = &mut self.counted {
            counted.went(count);
        }
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        let taken = self.bytes.copy_to_bytes(length);
        if let Some(counted) = &mut self.counted {
            counted.went(length);
        }
        taken
    }
}
