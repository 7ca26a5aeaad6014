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

use crate::config::{Permission, Token, TokenSource};

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
        tokens
            .iter()
            .map(|token| {
                let digest = match &token.source {
                    TokenSource::Sha256(digest) => *digest,
                    TokenSource::File(path) => digest(&read(&token.name, path)?),
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
