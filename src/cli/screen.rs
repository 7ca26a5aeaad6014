//! The terminal's second screen for what is looked at live: drawn in place, within what the window has, and left as it was found.
//!
//! Each frame is one write that overwrites line by line and clears what is left, between the marks of a synchronised update, so
//! that no terminal shows half of one. Lines are cut at the window's edge by the terminal (no wrapping), and at its foot here.

use rustix::termios::tcgetwinsize;

use super::CliError;
use super::output::{self, DIM};

/// Second screen, no cursor, no wrapping.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// A synchronised update; who does not know it ignores it.
const BEGIN: &str = "\x1b[?2026h\x1b[H";
const END: &str = "\x1b[J\x1b[?2026l";

/// The second screen, left again when dropped, so that what stood there before is not lost.
#[derive(Debug)]
pub(super) struct Screen(());

impl Screen {
    pub(super) fn enter() -> Result<Self, CliError> {
        output::raw(ENTER)?;
        Ok(Self(()))
    }

    /// Draws over what is there.
    #[expect(
        clippy::unused_self,
        reason = "there is nothing to draw on before it is entered"
    )]
    pub(super) fn draw(&self, text: &str) -> Result<(), CliError> {
        output::raw(&frame(text, rows()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if output::raw(LEAVE).is_err() {
            // the terminal has gone away, and its second screen with it
        }
    }
}

/// The height of the window; where it does not say, as if it were high enough.
fn rows() -> usize {
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_row > 0 => usize::from(size.ws_row),
        Ok(_) | Err(_) => usize::MAX,
    }
}

/// One frame of at most `rows` lines; where more would be there, the last line says how many.
fn frame(text: &str, rows: usize) -> String {
    let count = text.lines().count();
    let shown = if count > rows {
        rows.saturating_sub(1)
    } else {
        count
    };
    let mut lines: Vec<String> = text.lines().take(shown).map(str::to_owned).collect();
    if shown < count {
        lines.push(format!("{DIM}… {} more lines{DIM:#}", count - shown));
    }
    // no line end after the last one, which would scroll a full window
    format!("{BEGIN}{}\x1b[K{END}", lines.join("\x1b[K\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_no_more_lines_than_the_window() {
        let text = "one\ntwo\nthree\n";
        let all = frame(text, 3);
        assert_eq!(
            all,
            "\x1b[?2026h\x1b[Hone\x1b[K\ntwo\x1b[K\nthree\x1b[K\x1b[J\x1b[?2026l"
        );
        let cut = anstream::adapter::strip_str(&frame(text, 2)).to_string();
        assert_eq!(cut, "one\n… 2 more lines");
        assert!(frame(text, 0).contains("3 more lines"));
    }
}
