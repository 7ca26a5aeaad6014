//! Texts to values: durations, sizes, addresses, header names, paths, URLs.
//!
//! Everything that can reach a balancer's configuration passes here through a list of harmless characters; nothing is
//! escaped later (`nginx -t` executes what it reads). Each refusal names the text and what it should look like.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;

use crate::domain::{PublicUrl, StatusRange};

/// Why a text is not the value it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refusal(pub(super) String);

fn refuse<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(text.into()))
}

/// Longest duration that makes sense anywhere: 366 days. Keeps additions to a clock far from overflow.
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// `500ms`, `5s`, `1m 30s`; zero is allowed.
pub(super) fn duration(text: &str) -> Result<Duration, Refusal> {
    let parsed = if text.starts_with(['P', 'p']) {
        None
    } else {
        text.parse::<SignedDuration>().ok()
    };
    let Some(signed) = parsed else {
        let hint = if text.parse::<f64>().is_ok() {
            format!("`{text}` has no unit: write {text}s or {text}ms")
        } else {
            format!("`{text}` is not a duration: write 500ms, 5s or 1m 30s")
        };
        return refuse(hint);
    };
    let Ok(duration) = Duration::try_from(signed) else {
        return refuse(format!("`{text}` is negative"));
    };
    if duration > LONGEST {
        return refuse(format!("`{text}` is longer than a year"));
    }
    Ok(duration)
}

/// A duration above zero.
pub(super) fn positive(text: &str) -> Result<Duration, Refusal> {
    match duration(text)? {
        Duration::ZERO => refuse(format!("`{text}` is zero, which makes no sense here")),
        duration => Ok(duration),
    }
}

/// `512`, `32KiB`, `10MB`, in bytes.
pub(super) fn size(text: &str) -> Result<u64, Refusal> {
    let split = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => 0_u64,
    };
    let bytes = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| Refusal(format!("`{text}` is not a size: write 512, 32KiB or 10MB")))
}

/// An address to listen on.
pub(super) fn listener(text: &str) -> Result<SocketAddr, Refusal> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 {
            refuse(format!("`{text}` has port 0; a port is from 1 to 65535"))
        } else {
            Ok(address)
        };
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => ("", text),
        None => (text, ""),
    };
    match port.parse::<u16>() {
        Ok(0) => refuse(format!("`{text}` has port 0; a port is from 1 to 65535")),
        Ok(port) if host.is_empty() || host == "*" => refuse(format!(
            "`{text}` has no address: write 0.0.0.0:{port} for every one, or 127.0.0.1:{port} for this host alone"
        )),
        Ok(port) if host == "localhost" => refuse(format!(
            "`{text}` is a name; a listener is an IP address: write 127.0.0.1:{port}"
        )),
        Ok(_) => refuse(format!(
            "`{text}` is not an IP address with a port, such as 0.0.0.0:8080 or [::]:8080 (a name goes into `hosts`)"
        )),
        Err(_) if port.is_empty() => refuse(format!("`{text}` has no port: write IP:PORT")),
        Err(_) => refuse(format!(
            "`{text}` has no port from 1 to 65535 behind its colon"
        )),
    }
}

/// A header name: letters, digits and dashes (a part of what HTTP calls a token, which nginx's variables can name).
pub(super) fn header(text: &str) -> Result<String, Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if text.is_empty() || text.len() > 128 || !text.bytes().all(plain) {
        return refuse(format!(
            "`{text}` is not a header name: it has letters, digits, `-` and `_` only"
        ));
    }
    Ok(text.to_owned())
}

/// A cookie name, from the same characters as a header name and `.`.
pub(super) fn cookie(text: &str) -> Result<String, Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > 128 || !text.bytes().all(plain) {
        return refuse(format!(
            "`{text}` is not a cookie name: it has letters, digits, `-`, `_` and `.` only"
        ));
    }
    Ok(text.to_owned())
}

fn is_url_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._~%?&=+,:@-".contains(&byte)
}

/// Path and query of a URL.
pub(super) fn url_path(text: &str) -> Result<String, Refusal> {
    if !text.starts_with('/') {
        return refuse(format!("`{text}` is not a path: it starts with `/`"));
    }
    match text.bytes().position(|byte| !is_url_character(byte)) {
        Some(bad) => refuse(format!(
            "`{text}` has a character that a path may not have here, at its byte {}: write it as %XX",
            bad + 1
        )),
        None => Ok(text.to_owned()),
    }
}

/// An http or https URL with a host, and nothing that is secret in it.
pub(super) fn public_url(text: &str) -> Result<PublicUrl, Refusal> {
    let form = || {
        Refusal(format!(
            "`{text}` is not a URL such as https://shop.example.com/"
        ))
    };
    let uri: http::Uri = text.parse().ok().ok_or_else(form)?;
    let scheme = uri
        .scheme_str()
        .is_some_and(|scheme| scheme == "http" || scheme == "https");
    let authority = uri.authority().ok_or_else(form)?;
    let host = authority.host();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
    if !scheme || host.is_empty() || !authority.as_str().bytes().all(plain) {
        return Err(form());
    }
    if authority.as_str().contains(':') && !host.ends_with(']') && authority.port_u16().is_none() {
        return Err(form());
    }
    // The whole text again: the parser drops a fragment, and what is kept is the text.
    let harmless = |byte: u8| is_url_character(byte) || b"[]".contains(&byte);
    if !text.bytes().all(harmless) {
        return Err(form());
    }
    Ok(PublicUrl(text.to_owned()))
}

/// A network, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, Refusal> {
    text.parse::<IpNet>()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        .ok_or_else(|| {
            Refusal(format!(
                "`{text}` is not a network such as 10.0.0.0/8 or fd00::/8"
            ))
        })
}

/// `200` or `200-299`.
pub(super) fn statuses(text: &str) -> Result<StatusRange, Refusal> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        text.trim()
            .parse::<u16>()
            .ok()
            .filter(|status| (100..=599).contains(status))
    };
    match (status(low), status(high)) {
        (Some(low), Some(high)) if low <= high => Ok(StatusRange { low, high }),
        _ => refuse(format!(
            "`{text}` is not a status or a range of them: write 200 or 200-299"
        )),
    }
}

/// `none`, or what `parse` reads.
pub(super) fn unless_none<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, Refusal>,
) -> Result<Option<T>, Refusal> {
    if text == "none" {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

/// A whole number above zero.
pub(super) fn count(text: &str) -> Result<u32, Refusal> {
    text.parse::<u32>()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Refusal(format!("`{text}` is not a whole number from 1 on")))
}

/// A path in the file system, free of what would end or begin something in a balancer's configuration.
pub(super) fn path(text: &str) -> Result<&str, Refusal> {
    if text.is_empty() {
        return refuse("a path is not empty");
    }
    match text
        .chars()
        .find(|letter| letter.is_control() || "\"'`;{}$\\#".contains(*letter))
    {
        Some(bad) => refuse(format!(
            "`{}` holds {bad:?}, which a path may not have here",
            text.escape_debug()
        )),
        None => Ok(text),
    }
}

/// A label for people: no control characters, at most 63.
pub(super) fn label(text: &str) -> Result<String, Refusal> {
    let harmless = |letter: char| letter.is_alphanumeric() || " ._-/".contains(letter);
    if text.trim().is_empty() || text.chars().count() > 63 || !text.chars().all(harmless) {
        return refuse(format!(
            "`{}` is not a label: up to 63 letters, digits, spaces and `._-/`",
            text.escape_debug()
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_sign_that_makes_sense() {
        for (text, millis) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("1m 30s", 90_000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("0s", 0),
            ("1.5s", 1_500),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, message) in [
            ("5", "`5` has no unit: write 5s or 5ms"),
            ("-5s", "`-5s` is negative"),
            (
                "soon",
                "`soon` is not a duration: write 500ms, 5s or 1m 30s",
            ),
            ("", "`` is not a duration: write 500ms, 5s or 1m 30s"),
            (
                "PT5S",
                "`PT5S` is not a duration: write 500ms, 5s or 1m 30s",
            ),
            ("9000h", "`9000h` is longer than a year"),
        ] {
            assert_eq!(duration(text), Err(Refusal(message.into())), "{text}");
        }
        assert_eq!(
            positive("0s"),
            Err(Refusal("`0s` is zero, which makes no sense here".into()))
        );
    }

    #[test]
    fn sizes_are_bytes_with_or_without_a_unit() {
        for (text, bytes) in [
            ("512", 512),
            ("32KiB", 32 << 10),
            ("1 MiB", 1 << 20),
            ("10MB", 10_000_000),
            ("8k", 8 << 10),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "KiB", "-1", "1.5MiB", "1XB", "0", "99999999999GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_listener_is_an_address_and_the_message_says_which() {
        assert_eq!(listener("[::1]:80"), Ok("[::1]:80".parse().unwrap()));
        for (text, part) in [
            (":8080", "write 0.0.0.0:8080"),
            ("8080", "write 0.0.0.0:8080"),
            ("localhost:80", "write 127.0.0.1:80"),
            ("example.com:80", "(a name goes into `hosts`)"),
            ("0.0.0.0:0", "port 0"),
            ("0.0.0.0:70000", "no port from 1 to 65535"),
            ("127.0.0.1", "has no port"),
            ("1.2.3.4:80 80", "no port from 1 to 65535"),
        ] {
            let error = listener(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn nothing_passes_that_could_break_out_of_a_balancers_configuration() {
        for bad in [
            "\n", ";", "{", "}", "\"", "'", "#", "\0", "$", "\\", "`", " x",
        ] {
            assert!(header(&format!("X{bad}")).is_err(), "header {bad:?}");
            assert!(cookie(&format!("c{bad}")).is_err(), "cookie {bad:?}");
            assert!(url_path(&format!("/a{bad}")).is_err(), "path {bad:?}");
            assert!(
                public_url(&format!("http://a/{bad}")).is_err()
                    && public_url(&format!("http://a{bad}/")).is_err(),
                "url {bad:?}"
            );
        }
        for good in [
            "http://a",
            "https://a.example.com:8443/x?y=1",
            "http://[::1]:80/",
        ] {
            assert_eq!(public_url(good), Ok(PublicUrl(good.into())));
        }
        for bad in [
            "ftp://a/",
            "a.example.com",
            "http:///x",
            "http://u:p@a/",
            "http://a:/",
            "/x",
        ] {
            assert!(public_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn statuses_are_one_or_a_range() {
        assert_eq!(
            statuses("204"),
            Ok(StatusRange {
                low: 204,
                high: 204
            })
        );
        assert_eq!(
            statuses("200-299"),
            Ok(StatusRange {
                low: 200,
                high: 299
            })
        );
        for bad in ["", "20", "600", "299-200", "200-", "2xx"] {
            assert!(statuses(bad).is_err(), "{bad}");
        }
    }
}
