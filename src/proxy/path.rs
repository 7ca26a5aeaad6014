//! A request's path in the one form in which paths are compared: `/%6Cogin`, `//login` and `/x/../login` are `/login` to many
//! applications, so they are to a rule about `/login`. What is forwarded is never touched by this.

use std::borrow::Cow;

/// The path with percent-encoding resolved, and without empty, `.` and `..` segments.
pub(super) fn plain(path: &str) -> Cow<'_, str> {
    if !path.contains('%') && !path.contains("//") && !path.contains("/.") {
        return Cow::Borrowed(path);
    }
    let decoded = decode(path);
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    Cow::Owned(format!("/{}", segments.join("/")))
}

/// True if `path` is `above`, or below it. A slash at the end of `above` says nothing.
pub(super) fn is_below(path: &str, above: &str) -> bool {
    let above = above.trim_end_matches('/');
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Percent-encoding resolved once; what is not a code, or not text after it, stays or is replaced.
fn decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digit = |place: usize| {
            let byte = *after.get(place)?;
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        if let (b'%', Some(high), Some(low)) = (byte, digit(0), digit(1)) {
            bytes.push(high << 4 | low);
            rest = &after[2..];
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_write_a_path_are_one() {
        for (written, expected) in [
            ("/login", "/login"),
            ("/%6c%6Fgin", "/login"),
            ("//login//", "/login"),
            ("/a/./b/../login", "/a/login"),
            ("/../../login", "/login"),
            ("/a%2flogin", "/a/login"),
            ("/100%", "/100%"),
            ("/%zz", "/%zz"),
            ("/", "/"),
        ] {
            assert_eq!(plain(written), expected, "{written}");
        }
    }

    #[test]
    fn a_path_is_below_whole_segments_only() {
        assert!(is_below("/login", "/login"));
        assert!(is_below("/login/x", "/login/"));
        assert!(!is_below("/loginx", "/login"));
        assert!(is_below("/anything", "/"));
    }
}
