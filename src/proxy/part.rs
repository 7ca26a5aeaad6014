//! A part of an answer on its way to the client, counted until it is gone. HTTP/1 is told by its flush that all is gone; what a stream of
//! HTTP/2 was handed may wait in h2 for a window, while everything else is flushed, so there each part counts for itself.

use std::rc::Rc;

use bytes::{Buf, Bytes};

use super::client::{Connection, Protocol};

/// A part of an answer.
#[derive(Debug)]
pub(super) struct Part {
    bytes: Bytes,
    #[expect(dead_code, reason = "it counts until it is dropped")]
    counted: Option<Counted>,
}

/// Its place in what waits for the client, until this is dropped.
#[derive(Debug)]
struct Counted {
    connection: Rc<Connection>,
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
                Some(Counted {
                    connection: Rc::clone(connection),
                    bytes: bytes.len(),
                })
            }
        };
        Self { bytes, counted }
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
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}
