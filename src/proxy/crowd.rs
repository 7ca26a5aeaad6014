//! How many clients of this thread do not take what waits for them, and what follows: where they are many, servers are read in
//! small parts. Never says who they are, or does anything to them.
//!
//! What a client that does not read makes the proxy keep is a part of a server's answer twice: in the buffer that it was read
//! into, and in the one that it is written from. Large parts are what large bodies need to be cheap; six hundred slow readers
//! with 32 KiB parts were 73 MiB.

use std::cell::Cell;

thread_local! {
    static LAGGARDS: Cell<u32> = const { Cell::new(0) };
}

/// Laggards of one thread for which large parts are kept: 6 MiB.
const FEW: u32 = 64;

/// Bytes of one read from a server where there are more of them. Smaller than what hyper reads first, so that its buffer does
/// not grow.
pub(super) const SMALL_PART: usize = 4 * 1024;

/// A client whose socket is full, until this is dropped.
#[derive(Debug)]
pub(super) struct Laggard(());

impl Laggard {
    pub(super) fn begin() -> Self {
        LAGGARDS.set(LAGGARDS.get() + 1);
        Self(())
    }
}

impl Drop for Laggard {
    fn drop(&mut self) {
        LAGGARDS.set(LAGGARDS.get() - 1);
    }
}

/// True where this thread has more laggards than it keeps large parts for.
pub(super) fn is_there() -> bool {
    LAGGARDS.get() > FEW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_there_while_it_lasts() {
        let mut laggards: Vec<_> = (0..FEW).map(|_| Laggard::begin()).collect();
        assert!(!is_there());
        laggards.push(Laggard::begin());
        assert!(is_there());
        laggards.pop();
        assert!(!is_there());
    }
}
