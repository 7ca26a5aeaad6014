//! An error with all its causes on one line, for journals, log fields and API bodies. Terminals get `exit::Chain`.

use std::error::Error;

/// `failed to apply: nginx is not running: no such file`: each text once, from the outside in.
pub fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // a transparent wrapper has the text of what it wraps
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to open the door")]
    struct Door(#[source] Handle);

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Handle(std::io::Error);

    #[test]
    fn causes_follow_once_each() {
        let error = Door(Handle(std::io::Error::other("it is stuck")));
        assert_eq!(describe(&error), "failed to open the door: it is stuck");
    }
}
