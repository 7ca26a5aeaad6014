//! The named tokens: read once, kept as digests, compared in constant time.
//!
//! What is compared are SHA-256 digests, so neither the length of a secret nor the place of its first wrong byte shows in the
//! time; and all tokens are compared, so the one that fits does not show either.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{Env, Permission, Token, TokenSource};

/// A token file is a line; more than this is something else.
const MAX_FILE: u64 = 4096;

/// Why a token cannot be used. The API does not start.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file could not be read.
    #[error("failed to read the file {path} of token `{name}`")]
    Read {
        /// The token's name.
        name: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Who may read the file may do what the token may.
    #[error(
        "the file {path} of token `{name}` may be read or written by every user of this host (mode {mode:o}): chmod 0600 it"
    )]
    Exposed {
        /// The token's name.
        name: String,
        /// Its file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The variable is not set.
    #[error("the variable {variable} of token `{name}` is not set")]
    NoVariable {
        /// The token's name.
        name: String,
        /// Its variable.
        variable: String,
    },
    /// The process was not started by systemd, or without any credential.
    #[error(
        "there is no $CREDENTIALS_DIRECTORY for the credential `{credential}` of token `{name}`: give the unit a LoadCredential={credential}:/PATH"
    )]
    NoCredentials {
        /// The token's name.
        name: String,
        /// Its credential.
        credential: String,
    },
    /// What a variable holds is not a line of text.
    #[error("the variable {variable} of token `{name}` is not one line of text")]
    NotALineThere {
        /// The token's name.
        name: String,
        /// Its variable.
        variable: String,
    },
    /// `sha256:` and something else than 64 hexadecimal digits.
    #[error(
        "the secret of token `{name}` begins with `sha256:`, and what follows is not 64 hexadecimal digits"
    )]
    NotADigest {
        /// The token's name.
        name: String,
    },
    /// Not a file with one line of text.
    #[error("the file {path} of token `{name}` is not a file with one line of text")]
    NotALine {
        /// The token's name.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// The secret is the empty text, which every caller knows.
    #[error(
        "token `{name}` is empty: give it a secret, such as the output of `openssl rand -hex 32`"
    )]
    Empty {
        /// The token's name.
        name: String,
    },
}

#[derive(Debug)]
struct Known {
    name: String,
    digest: [u8; 32],
    may: BTreeSet<Permission>,
}

/// All tokens of the configuration.
#[derive(Debug)]
pub(super) struct Tokens(Vec<Known>);

/// The token that fits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder<'a> {
    /// Its name, the actor.
    pub(super) name: &'a str,
    /// What it may do.
    pub(super) may: &'a BTreeSet<Permission>,
}

impl Tokens {
    /// Reads and hashes each token.
    pub(super) fn load(tokens: &[Token]) -> Result<Self, TokenError> {
        Self::load_with(tokens, &Env::of_process())
    }

    fn load_with(tokens: &[Token], env: &Env<'_>) -> Result<Self, TokenError> {
        tokens
            .iter()
            .map(|token| {
                let digest = match &token.source {
                    TokenSource::Sha256(digest) => *digest,
                    TokenSource::File(path) => meant(&token.name, &read(&token.name, path)?)?,
                    TokenSource::Variable(variable) => {
                        meant(&token.name, &variable_of(&token.name, variable, env)?)?
                    }
                    TokenSource::Credential(credential) => {
                        let path = credential_of(&token.name, credential, env)?;
                        meant(&token.name, &read(&token.name, &path)?)?
                    }
                };
                if digest == self::digest(b"") {
                    return Err(TokenError::Empty {
                        name: token.name.clone(),
                    });
                }
                Ok(Known {
                    name: token.name.clone(),
                    digest,
                    may: token.may.clone(),
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// True if the configuration has none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The token of this name.
    pub(super) fn named(&self, name: &str) -> Option<Holder<'_>> {
        let known = self.0.iter().find(|known| known.name == name)?;
        Some(Holder {
            name: &known.name,
            may: &known.may,
        })
    }

    /// The token whose secret this is.
    pub(super) fn find(&self, secret: &[u8]) -> Option<Holder<'_>> {
        let presented = digest(secret);
        let mut fitting = None;
        for known in &self.0 {
            if bool::from(known.digest.ct_eq(&presented)) {
                fitting = Some(Holder {
                    name: &known.name,
                    may: &known.may,
                });
            }
        }
        fitting
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The digest that a stored text stands for: its own, or the one that it spells.
fn meant(name: &str, stored: &[u8]) -> Result<[u8; 32], TokenError> {
    let Some(spelt) = stored.strip_prefix(b"sha256:") else {
        return Ok(digest(stored));
    };
    std::str::from_utf8(spelt)
        .ok()
        .and_then(TokenSource::digest)
        .ok_or_else(|| TokenError::NotADigest {
            name: name.to_owned(),
        })
}

fn variable_of(name: &str, variable: &str, env: &Env<'_>) -> Result<Vec<u8>, TokenError> {
    let text = env.var(variable).ok_or_else(|| TokenError::NoVariable {
        name: name.to_owned(),
        variable: variable.to_owned(),
    })?;
    let secret = text.trim_ascii().as_bytes();
    if secret.iter().all(u8::is_ascii_graphic) {
        Ok(secret.to_vec())
    } else {
        Err(TokenError::NotALineThere {
            name: name.to_owned(),
            variable: variable.to_owned(),
        })
    }
}

/// systemd puts the credentials of a unit into a folder that its user alone may read.
fn credential_of(name: &str, credential: &str, env: &Env<'_>) -> Result<PathBuf, TokenError> {
    env.var("CREDENTIALS_DIRECTORY")
        .map(|folder| Path::new(&folder).join(credential))
        .ok_or_else(|| TokenError::NoCredentials {
            name: name.to_owned(),
            credential: credential.to_owned(),
        })
}

/// The secret in a file, without the newline that editors put behind it.
fn read(name: &str, path: &Path) -> Result<Vec<u8>, TokenError> {
    let failed = |source| TokenError::Read {
        name: name.to_owned(),
        path: path.to_owned(),
        source,
    };
    let not_a_line = || TokenError::NotALine {
        name: name.to_owned(),
        path: path.to_owned(),
    };
    // O_NONBLOCK: opening a FIFO must not hang the start
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(not_a_line());
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o006 != 0 {
        return Err(TokenError::Exposed {
            name: name.to_owned(),
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Vec::new();
    let length = file
        .take(MAX_FILE + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    let secret = text.trim_ascii();
    if length as u64 > MAX_FILE || !secret.iter().all(u8::is_ascii_graphic) {
        return Err(not_a_line());
    }
    Ok(secret.to_vec())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn token(name: &str, source: TokenSource) -> Token {
        Token {
            name: name.to_owned(),
            source,
            may: BTreeSet::from([Permission::Read]),
        }
    }

    fn file(text: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(mode))
            .unwrap();
        file
    }

    #[test]
    fn the_fitting_token_is_named_and_no_other_text_fits() {
        let secret = file(b"s3cret\n", 0o600);
        let tokens = Tokens::load(&[
            token("ci", TokenSource::File(secret.path().to_owned())),
            token("ops", TokenSource::Sha256(digest(b"other"))),
        ])
        .unwrap();
        assert_eq!(tokens.find(b"s3cret").unwrap().name, "ci");
        assert_eq!(tokens.find(b"other").unwrap().name, "ops");
        for wrong in [&b""[..], b"s3cre", b"s3cret\n", b"S3CRET", b"ci"] {
            assert_eq!(tokens.find(wrong), None);
        }
    }

    #[test]
    fn a_secret_may_come_from_a_variable_or_a_credential_plain_or_as_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let credentials = folder.path().display().to_string();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::File::create(&path)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        };
        let spelt = |secret: &str| {
            let digits = digest(secret.as_bytes()).map(|byte| format!("{byte:02X}"));
            format!("sha256:{}", digits.concat())
        };
        put("ci", "in-a-credential\n");
        put("hashed", &spelt("hashed-credential"));
        let hashed = spelt("hashed-variable");
        let env = Env::new(folder.path().to_owned(), |name| match name {
            "CREDENTIALS_DIRECTORY" => Some(credentials.clone()),
            "PLAIN" => Some("in-a-variable".to_owned()),
            "HASHED" => Some(hashed.clone()),
            "EMPTY" => Some(String::new()),
            "LINES" => Some("a\nb".to_owned()),
            "HALF" => Some("sha256:abc".to_owned()),
            _ => None,
        });
        let variable = |name: &str| TokenSource::Variable(name.to_owned());
        let credential = |name: &str| TokenSource::Credential(name.to_owned());
        let tokens = Tokens::load_with(
            &[
                token("a", credential("ci")),
                token("b", credential("hashed")),
                token("c", variable("PLAIN")),
                token("d", variable("HASHED")),
            ],
            &env,
        )
        .unwrap();
        for (secret, name) in [
            ("in-a-credential", "a"),
            ("hashed-credential", "b"),
            ("in-a-variable", "c"),
            ("hashed-variable", "d"),
        ] {
            assert_eq!(tokens.find(secret.as_bytes()).unwrap().name, name);
        }
        assert_eq!(
            tokens.find(hashed.as_bytes()),
            None,
            "the digest is no secret"
        );
        for (source, says) in [
            (
                variable("ABSENT"),
                "the variable ABSENT of token `x` is not set",
            ),
            (
                variable("EMPTY"),
                "token `x` is empty: give it a secret, such as the output of `openssl rand -hex 32`",
            ),
            (
                variable("LINES"),
                "the variable LINES of token `x` is not one line of text",
            ),
            (
                variable("HALF"),
                "the secret of token `x` begins with `sha256:`, and what follows is not 64 hexadecimal digits",
            ),
        ] {
            let refused = Tokens::load_with(&[token("x", source)], &env).unwrap_err();
            assert_eq!(refused.to_string(), says);
        }
        let outside = Env::new(folder.path().to_owned(), |_| None);
        let refused = Tokens::load_with(&[token("x", credential("ci"))], &outside).unwrap_err();
        assert!(
            matches!(refused, TokenError::NoCredentials { .. }),
            "{refused}"
        );
    }

    #[test]
    fn a_secret_that_others_know_is_refused() {
        let load = |file: &tempfile::NamedTempFile| {
            Tokens::load(&[token("ci", TokenSource::File(file.path().to_owned()))]).unwrap_err()
        };
        assert!(matches!(
            load(&file(b"x", 0o644)),
            TokenError::Exposed { mode: 0o644, .. }
        ));
        assert!(matches!(
            load(&file(b"x", 0o602)),
            TokenError::Exposed { .. }
        ));
        assert!(matches!(
            load(&file(b" \n", 0o600)),
            TokenError::Empty { .. }
        ));
        assert!(matches!(
            load(&file(b"a\nb", 0o600)),
            TokenError::NotALine { .. }
        ));
        assert!(matches!(
            load(&file(&[b'a'; 5000], 0o600)),
            TokenError::NotALine { .. }
        ));
        let empty = Tokens::load(&[token("ORCH_TOKEN", TokenSource::Sha256(digest(b"")))]);
        assert!(matches!(empty.unwrap_err(), TokenError::Empty { .. }));
    }
}
