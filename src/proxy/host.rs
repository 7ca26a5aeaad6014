//! The host that a connection's last request named. Nearly every client asks for one host over a connection, so that to judge and
//! to look up the same text again would be most of what routing costs. Holds the text itself, never a part of the buffer it
//! came in, and no snapshot: a place in one counts only while that one is in force.

use std::cell::{Cell, RefCell};

use super::view::ViewNumber;

/// Longer ones are looked at each time: what an idle connection holds is bounded. A name has 253 bytes at most.
const LONGEST: usize = 272;

/// The last host that was found well.
#[derive(Debug, Default)]
pub(super) struct LastHost {
    text: RefCell<Vec<u8>>,
    /// The place of its service in the snapshot of that view.
    found: Cell<Option<(ViewNumber, usize)>>,
}

impl LastHost {
    /// True if `host` was found well last time.
    pub(super) fn is(&self, host: &[u8]) -> bool {
        let text = self.text.borrow();
        !text.is_empty() && **text == *host
    }

    /// `host` is well formed.
    pub(super) fn remember(&self, host: &[u8]) {
        let mut text = self.text.borrow_mut();
        text.clear();
        if host.len() <= LONGEST {
            text.extend_from_slice(host);
        }
        self.found.set(None);
    }

    /// Where the service of `host` stands, or where `find` finds it.
    pub(super) fn place(
        &self,
        host: &[u8],
        view: ViewNumber,
        find: impl FnOnce() -> Option<usize>,
    ) -> Option<usize> {
        let is_known = self.is(host);
        match self.found.get() {
            Some((known, place)) if is_known && known == view => Some(place),
            Some(_) | None => {
                let place = find()?;
                if is_known {
                    self.found.set(Some((view, place)));
                }
                Some(place)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_for_its_host_and_its_view_alone() {
        let last = LastHost::default();
        let (one, two) = (ViewNumber::default(), ViewNumber::default().next());
        assert!(!last.is(b"") && !last.is(b"a"));
        assert_eq!(last.place(b"a", one, || Some(3)), Some(3));
        assert_eq!(last.place(b"a", one, || Some(4)), Some(4));
        last.remember(b"a");
        assert!(last.is(b"a") && !last.is(b"b"));
        assert_eq!(last.place(b"a", one, || None), None);
        assert_eq!(last.place(b"a", one, || Some(5)), Some(5));
        assert_eq!(last.place(b"a", one, || Some(6)), Some(5));
        assert_eq!(last.place(b"a", two, || Some(6)), Some(6));
        assert_eq!(last.place(b"b", two, || Some(7)), Some(7));
        last.remember(b"b");
        assert_eq!(last.place(b"b", two, || Some(8)), Some(8));
        last.remember(&[b'a'; LONGEST + 1]);
        assert!(!last.is(b"b") && !last.is(&[b'a'; LONGEST + 1]));
    }
}
