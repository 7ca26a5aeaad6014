//! `control`, `trusted_proxies` and `state.follow`.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::Checker;
use crate::config::Env;
use crate::config::document::{At, normal};
use crate::config::file;
use crate::config::quantity::{self, Refusal, network};
use crate::config::shape::nearest;
use crate::config::valid::{
    Control, ControlListen, Follow, Permission, ServiceConfig, Token, TokenSource,
};
use crate::config::whereabouts::Whereabouts;
use crate::domain::{HostPattern, ServiceName};

/// The name of the token that `ORCH_TOKEN` makes.
const ENV_TOKEN: &str = "env";

pub(super) fn control(
    checker: &mut Checker<'_>,
    at: At<'_>,
    given: Option<&file::Control>,
    env: &Env<'_>,
) -> Control {
    let document = at.document();
    let listen = given.and_then(|given| given.listen.as_deref());
    let listen = checker
        .report
        .read(at.key("listen"), listen, |text| {
            listen_at(text, &document.folder)
        })
        .unwrap_or_else(Whereabouts::listen);
    let hosts_at = at.key("hosts");
    let hosts = given
        .and_then(|given| given.hosts.as_ref())
        .into_iter()
        .flatten()
        .enumerate();
    let hosts = hosts
        .filter_map(|(index, host)| {
            checker
                .report
                .read(hosts_at.item(index), host.as_deref(), |text| match text
                    .parse::<HostPattern>()
                {
                    Ok(HostPattern::Exact(name)) => Ok(name),
                    Ok(HostPattern::Below(_)) => Err(Refusal(format!(
                        "`{text}` is a pattern; the API is called by exact names"
                    ))),
                    Err(error) => Err(Refusal(error.to_string())),
                })
        })
        .collect();
    let tokens_at = at.key("tokens");
    let mut tokens = Vec::new();
    let mut names = BTreeSet::new();
    let given = given.and_then(|given| given.tokens.as_ref());
    for (index, given) in given.into_iter().flatten().enumerate() {
        let Some(given) = given else { continue };
        let here = tokens_at.item(index);
        if !names.insert(given.name.clone()) {
            let name = &given.name;
            let at = here.key("name");
            checker.report.add(
                at,
                format!("{at}: there is another token called `{name}`"),
                "",
            );
        }
        tokens.extend(token(checker, here, given));
    }
    match environment_token(env) {
        Ok(token) => tokens.extend(token),
        Err(refusal) => checker
            .report
            .problems
            .push(crate::config::Problem::of_whole(refusal.to_string())),
    }
    Control {
        listen,
        hosts,
        tokens,
    }
}

/// `host:port` or `unix:/path`.
pub(in crate::config) fn listen_at(
    text: &str,
    folder: &std::path::Path,
) -> Result<ControlListen, Refusal> {
    match text.strip_prefix("unix:") {
        Some(path) => Ok(ControlListen::Unix(normal(
            &folder.join(quantity::path(path)?),
        ))),
        None if text.starts_with('/') => Err(Refusal(format!(
            "`{text}` looks like a socket: write unix:{text}"
        ))),
        None => quantity::listener(text).map(ControlListen::Tcp),
    }
}

/// The token that `ORCH_TOKEN` makes, if it is set. An empty one is refused, since it would protect nothing.
fn environment_token(env: &Env<'_>) -> Result<Option<Token>, Refusal> {
    match env.var("ORCH_TOKEN") {
        None => Ok(None),
        Some(secret) if secret.trim().is_empty() => Err(Refusal(
            "ORCH_TOKEN is set but empty: give it a secret, or unset it".into(),
        )),
        Some(secret) => Ok(Some(Token {
            name: ENV_TOKEN.into(),
            source: TokenSource::Sha256(Sha256::digest(secret.as_bytes()).into()),
            may: BTreeSet::from([Permission::Read, Permission::Write]),
        })),
    }
}

fn token(checker: &mut Checker<'_>, at: At<'_>, given: &file::Token) -> Option<Token> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    let name_at = at.key("name");
    let name = checker.report.read(name_at, Some(&given.name), |name| {
        if name == ENV_TOKEN {
            Err(Refusal(
                "`env` is the name of the token that ORCH_TOKEN makes".into(),
            ))
        } else if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
            Err(Refusal(format!(
                "`{}` is not a name: up to 63 letters, digits and `._@-`",
                name.escape_debug()
            )))
        } else {
            Ok(name.to_owned())
        }
    });
    let source = token_source(checker, at, given);
    let may: BTreeSet<Permission> = given
        .may
        .iter()
        .flatten()
        .map(|may| match may {
            file::May::Read => Permission::Read,
            file::May::Write => Permission::Write,
        })
        .collect();
    if may.is_empty() {
        let at = at.key("may");
        checker.report.missing(
            at,
            format!("{at} permits nothing: list read, write or both"),
            "",
        );
    }
    Some(Token {
        name: name?,
        source: source?,
        may,
    })
}

/// The one place of the secret.
fn token_source(checker: &mut Checker<'_>, at: At<'_>, given: &file::Token) -> Option<TokenSource> {
    const WAYS: &str = "`file`, `env`, `credential` or `sha256`";
    match (&given.file, &given.env, &given.credential, &given.sha256) {
        (Some(file), None, None, None) => {
            let path = checker.path(at.key("file"), Some(file), file);
            Some(TokenSource::File(path))
        }
        (None, Some(name), None, None) => checker
            .report
            .read(at.key("env"), Some(name), |name| {
                plain_name(name, "a variable")
            })
            .map(TokenSource::Variable),
        (None, None, Some(name), None) => checker
            .report
            .read(at.key("credential"), Some(name), |name| {
                plain_name(name, "a credential")
            })
            .map(TokenSource::Credential),
        (None, None, None, Some(digest)) => checker
            .report
            .read(at.key("sha256"), Some(digest), digest_of)
            .map(TokenSource::Sha256),
        (None, None, None, None) => {
            let message = format!("{at} has no secret: give {WAYS}");
            checker.report.missing(at, message, "");
            None
        }
        _ => {
            let message = format!("{at} has more than one of {WAYS}: one is enough");
            checker.report.add(at, message, "");
            None
        }
    }
}

/// A name that is nothing but a name: a credential is a file in a folder, and stays in it.
fn plain_name(name: &str, what: &str) -> Result<String, Refusal> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 255 || name.starts_with('.') || !name.bytes().all(inner) {
        return Err(Refusal(format!(
            "`{}` is not the name of {what}: letters, digits and `._-`",
            name.escape_debug()
        )));
    }
    Ok(name.to_owned())
}

fn digest_of(text: &str) -> Result<[u8; 32], Refusal> {
    let digest = TokenSource::digest(text).ok_or_else(|| {
        Refusal("a SHA-256 is 64 hexadecimal digits (printf %s SECRET | sha256sum)".into())
    })?;
    let empty: [u8; 32] = Sha256::digest(b"").into();
    if digest == empty {
        return Err(Refusal("this is the SHA-256 of an empty secret".into()));
    }
    Ok(digest)
}

pub(super) fn trusted(checker: &mut Checker<'_>, at: At<'_>, root: &file::Root) -> Vec<IpNet> {
    let given = root.trusted_proxies.iter().flatten().enumerate();
    given
        .filter_map(|(index, text)| {
            checker
                .report
                .read(at.item(index), text.as_deref(), network)
        })
        .collect()
}

pub(super) fn follow(
    checker: &mut Checker<'_>,
    at: At<'_>,
    given: Option<&file::Follow>,
    services: &BTreeMap<ServiceName, ServiceConfig>,
) -> Option<Follow> {
    let given = given?;
    let file = checker.path(at.key("file"), Some(&given.file), &given.file);
    if given.field.is_empty() {
        let at = at.key("field");
        checker.report.add(
            at,
            format!("{at} is empty: name the field that holds blue or green"),
            "",
        );
    }
    let service = followed(checker, at, given.service.as_deref(), services);
    Some(Follow {
        file,
        field: given.field.clone(),
        service: service?,
    })
}

/// Whose active color is followed: the service that is named, or the only one.
fn followed(
    checker: &mut Checker<'_>,
    at: At<'_>,
    named: Option<&str>,
    services: &BTreeMap<ServiceName, ServiceConfig>,
) -> Option<ServiceName> {
    let Some(name) = named else {
        if services.len() > 1 {
            checker.report.add(
                at,
                format!("{at} must name its `service`, as there are several"),
                "",
            );
            return None;
        }
        // No service at all is a problem of its own.
        return services.keys().next().cloned();
    };
    let found = services.keys().find(|known| known.as_str() == name);
    if found.is_none() {
        let known = services.keys().map(ServiceName::as_str).collect();
        let near =
            nearest(name, known).map_or(String::new(), |near| format!(", did you mean `{near}`?"));
        let at = at.key("service");
        checker.report.add(
            at,
            format!("{at}: there is no service `{name}` with a blue and a green{near}"),
            "",
        );
    }
    found.cloned()
}
