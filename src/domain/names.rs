//! The names that reach a balancer's configuration: of a service, and of the hosts it answers to.
//!
//! Every text that can reach a balancer's configuration is a type that admits only harmless characters, because
//! `nginx -t` executes what it reads (CVE-2025-1974 came in through a value). Nothing here may widen that alphabet for
//! the sake of one balancer.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not what it should name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {rule}")]
pub struct InvalidName {
    /// What it was to be, such as "service name".
    pub what: &'static str,
    /// The text as given.
    pub text: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// The name of a service: `[a-z0-9][a-z0-9_-]{0,62}`, and none of `blue`, `green`, `all`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9_-]{0,62}$", example = "shop")]
pub struct ServiceName(String);

impl ServiceName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name with `_` for `-`, for places (nginx variables) that take no dash. Two names that differ only there are
    /// refused by the configuration.
    pub fn identifier(&self) -> String {
        self.0.replace('-', "_")
    }
}

impl FromStr for ServiceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |rule| {
            Err(InvalidName {
                what: "service name",
                text: text.to_owned(),
                rule,
            })
        };
        let inner = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
        };
        match text.as_bytes() {
            [] => refuse("it is empty"),
            [first, ..] if !first.is_ascii_lowercase() && !first.is_ascii_digit() => {
                refuse("it starts with a lower-case letter or a digit")
            }
            bytes if bytes.len() > 63 => refuse("it has at most 63 characters"),
            bytes if !bytes.iter().copied().all(inner) => {
                refuse("it has lower-case letters, digits, `-` and `_` only")
            }
            b"blue" | b"green" | b"all" => {
                refuse("blue, green and all mean something else on the command line")
            }
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ServiceName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Letters, digits, `-` and `_` in labels of 1 to 63, 253 characters at most (RFC 1035 and the underscore of Docker).
pub(super) fn is_dns_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// A host that a service answers to: exact, or everything below a name. Lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum HostPattern {
    /// `shop.example.com`
    Exact(String),
    /// `*.example.com`, stored as `example.com`; matches `a.example.com` and `a.b.example.com`, not `example.com`.
    Below(String),
}

impl HostPattern {
    /// True if `host` (lower case, without a port) is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host == name,
            Self::Below(name) => {
                host.len() > name.len() + 1
                    && host.ends_with(name.as_str())
                    && host.as_bytes()[host.len() - name.len() - 1] == b'.'
            }
        }
    }

    /// A host that this pattern matches, for a request that proves something.
    pub fn example(&self) -> String {
        match self {
            Self::Exact(name) => name.clone(),
            Self::Below(name) => format!("turnout.{name}"),
        }
    }
}

impl FromStr for HostPattern {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let (name, below) = lower
            .strip_prefix("*.")
            .map_or((lower.as_str(), false), |rest| (rest, true));
        let address = !below && name.parse::<IpAddr>().is_ok();
        if !address && !is_dns_name(name) {
            let rule = "it is a DNS name such as shop.example.com or *.example.com, without scheme, port or path";
            return Err(InvalidName {
                what: "host",
                text: text.to_owned(),
                rule,
            });
        }
        Ok(if below {
            Self::Below(name.to_owned())
        } else {
            Self::Exact(name.to_owned())
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.pad(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_admit_nothing_that_could_end_a_directive() {
        for good in ["shop", "a", "0", "shop-2_b"] {
            assert_eq!(good.parse::<ServiceName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            "Shop",
            "-a",
            "_a",
            "a b",
            "a;b",
            "a{",
            "a\n",
            "a\"",
            "a#",
            "ä",
            "blue",
            "green",
            "all",
            "a.b",
            long.as_str(),
        ] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
            if bad != "a.b" {
                assert!(
                    bad.is_empty() || HostPattern::from_str(&format!("{bad};")).is_err(),
                    "{bad:?}"
                );
            }
        }
    }

    #[test]
    fn a_wildcard_matches_below_and_not_the_name_itself() {
        let pattern: HostPattern = "*.Example.com".parse().unwrap();
        assert!(pattern.matches("a.example.com") && pattern.matches("a.b.example.com"));
        assert!(
            !pattern.matches("example.com")
                && !pattern.matches("aexample.com")
                && !pattern.matches(".example.com")
        );
        assert!(pattern.matches(&pattern.example()));
        for bad in [
            "", "*", "*.", "a b", "http://a", "a:80", "a/b", "a;b", "-a", "a..b", "*.*.a",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad:?}");
        }
    }
}
