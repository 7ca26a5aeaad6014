//! TLS on a listener: which certificate a client gets, where certificates come from, and what happens when one is bad.
//!
//! A certificate is read when its service comes into the table, and again when told that files changed. A pair that cannot be
//! used changes nothing: the last good one is served on, and the reason is kept for the status. One that never was good
//! fails the handshakes for its own names alone; no other service is touched.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::domain::{HostPattern, ServiceName, TlsFiles, describe};

/// What is offered by ALPN, best first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
/// HTTP/2 in ALPN.
pub(super) const HTTP2: &[u8] = b"h2";

/// Why a pair of certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file is not there, cannot be read, or is not PEM.
    #[error("failed to read the certificate {path}")]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// PEM without a certificate in it.
    #[error(
        "there is no certificate in {path}: it must hold the leaf first, then the intermediates, as PEM"
    )]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// The file is not there, cannot be read, or holds no key.
    #[error("failed to read the key {path}")]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// They do not fit, or are of a kind that is not known.
    #[error("the key {key} cannot be used with the certificate {cert}")]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// Reads a pair and sees whether it can be served.
pub fn check_certificate(files: &TlsFiles) -> Result<(), CertificateError> {
    read(files).map(drop)
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, CertificateError> {
    let TlsFiles { cert, key } = files;
    let unread = |source| CertificateError::Certificate {
        path: cert.clone(),
        source,
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .map_err(unread)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(unread)?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate { path: cert.clone() });
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|source| CertificateError::Key {
        path: key.clone(),
        source,
    })?;
    CertifiedKey::from_der(chain, secret, &ring::default_provider()).map_err(|source| {
        CertificateError::Pair {
            cert: cert.clone(),
            key: key.clone(),
            source,
        }
    })
}

/// The certificate of one service.
#[derive(Debug)]
pub(super) struct Certificate {
    service: ServiceName,
    pub(super) files: TlsFiles,
    good: ArcSwapOption<CertifiedKey>,
    problem: ArcSwapOption<String>,
}

impl Certificate {
    /// Reads it. One that is bad is kept as bad.
    pub(super) fn of(service: ServiceName, files: TlsFiles) -> Self {
        let certificate = Self {
            service,
            files,
            good: ArcSwapOption::empty(),
            problem: ArcSwapOption::empty(),
        };
        certificate.reload();
        certificate
    }

    /// Reads it again. Handshakes that have begun end with the one before.
    pub(super) fn reload(&self) {
        match read(&self.files) {
            Ok(pair) => {
                self.good.store(Some(Arc::new(pair)));
                self.problem.store(None);
            }
            Err(error) => {
                let served = if self.good.load().is_some() {
                    "the last good one is served"
                } else {
                    "nobody can connect by TLS to its hosts"
                };
                let text = format!("{}: {}; {served}", self.service, describe(&error));
                self.problem.store(Some(Arc::new(text)));
            }
        }
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.problem.load().as_deref().cloned()
    }
}

/// The certificates of one listener, by the name that a client asks for (SNI).
#[derive(Debug, Default)]
pub(super) struct Names {
    exact: HashMap<String, Arc<Certificate>>,
    below: HashMap<String, Arc<Certificate>>,
    any: Option<Arc<Certificate>>,
    first: Option<Arc<Certificate>>,
}

impl Names {
    pub(super) fn add(&mut self, hosts: &[HostPattern], certificate: &Arc<Certificate>) {
        for host in hosts {
            match host {
                HostPattern::Exact(name) => {
                    self.exact.insert(name.clone(), Arc::clone(certificate))
                }
                HostPattern::Below(name) => {
                    self.below.insert(name.clone(), Arc::clone(certificate))
                }
            };
        }
        if hosts.is_empty() {
            self.any = Some(Arc::clone(certificate));
        }
        self.first.get_or_insert_with(|| Arc::clone(certificate));
    }

    /// The certificate for a name; without a name, or for one that nobody has, that of the service for any host, else of the
    /// first service by name.
    fn find(&self, name: Option<&str>) -> Option<&Arc<Certificate>> {
        let fallback = self.any.as_ref().or(self.first.as_ref());
        let Some(name) = name else { return fallback };
        if let Some(certificate) = self.exact.get(name) {
            return Some(certificate);
        }
        let mut rest = name;
        while let Some((_, above)) = rest.split_once('.') {
            if let Some(certificate) = self.below.get(above) {
                return Some(certificate);
            }
            rest = above;
        }
        fallback
    }

    /// What a listener needs; `None` if no service has a certificate, which makes it plain. Sessions of `before` go on.
    pub(super) fn into_config(
        self,
        before: Option<&Arc<ServerConfig>>,
    ) -> Option<Arc<ServerConfig>> {
        self.first.as_ref()?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions();
        // ring has both versions, so there is always a configuration
        let mut config = builder
            .ok()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        if let Some(before) = before {
            config.session_storage = Arc::clone(&before.session_storage);
        }
        Some(Arc::new(config))
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives names in small letters
        self.find(hello.server_name())?.good.load_full()
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "certificates of tests need not survive a crash"
)]
mod tests {
    use super::*;

    fn pair(folder: &std::path::Path, name: &str) -> TlsFiles {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let files = TlsFiles {
            cert: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        };
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn a_pair_that_cannot_be_used_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let good = pair(folder.path(), "a");
        let other = pair(folder.path(), "b");
        let junk = folder.path().join("junk");
        std::fs::write(&junk, "-----BEGIN NOTHING-----\n").unwrap();
        let gone = folder.path().join("gone");
        check_certificate(&good).unwrap();
        for (cert, key, says) in [
            (&gone, &good.key, "failed to read the certificate"),
            (&good.cert, &gone, "failed to read the key"),
            (&good.key, &good.key, "there is no certificate in"),
            (&good.cert, &good.cert, "failed to read the key"),
            (
                &good.cert,
                &other.key,
                "cannot be used with the certificate",
            ),
            (&good.cert, &junk, "failed to read the key"),
        ] {
            let error = check_certificate(&TlsFiles {
                cert: cert.clone(),
                key: key.clone(),
            })
            .unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn a_bad_pair_changes_nothing_but_the_problem() {
        let folder = tempfile::tempdir().unwrap();
        let files = pair(folder.path(), "a");
        let certificate = Certificate::of("shop".parse().unwrap(), files.clone());
        assert_eq!(certificate.problem(), None);
        let first = certificate.good.load_full().unwrap();
        std::fs::write(&files.key, "nothing").unwrap();
        certificate.reload();
        assert!(Arc::ptr_eq(&first, &certificate.good.load_full().unwrap()));
        let problem = certificate.problem().unwrap();
        assert!(
            problem.starts_with("shop: failed to read the key"),
            "{problem}"
        );
        assert!(
            problem.ends_with("the last good one is served"),
            "{problem}"
        );
        pair(folder.path(), "a");
        certificate.reload();
        assert_eq!(certificate.problem(), None);
        assert!(!Arc::ptr_eq(&first, &certificate.good.load_full().unwrap()));
    }

    #[test]
    fn the_name_decides_exact_before_wildcard_before_any() {
        let files = TlsFiles {
            cert: "/nonexistent".into(),
            key: "/nonexistent".into(),
        };
        let mut names = Names::default();
        for (service, hosts) in [
            ("alpha", vec!["*.example.com"]),
            ("beta", vec!["shop.example.com"]),
            ("gamma", vec![]),
        ] {
            let hosts: Vec<HostPattern> = hosts.iter().map(|host| host.parse().unwrap()).collect();
            let certificate = Certificate::of(service.parse().unwrap(), files.clone());
            names.add(&hosts, &Arc::new(certificate));
        }
        for (name, service) in [
            (Some("shop.example.com"), "beta"),
            (Some("blog.example.com"), "alpha"),
            (Some("a.blog.example.com"), "alpha"),
            (Some("example.com"), "gamma"),
            (None, "gamma"),
        ] {
            assert_eq!(names.find(name).unwrap().service.to_string(), service);
        }
        names.any = None;
        assert_eq!(names.find(None).unwrap().service.to_string(), "alpha");
    }
}
