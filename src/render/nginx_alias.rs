//! A service behind an alias, as the nginx template sees it.

use serde::Serialize;

use super::view::ServiceView;
use super::{Error, NginxContext};
use crate::domain::{Admission, AliasRoute};

/// What a location says of an alias. A variable in `proxy_pass` is what makes nginx look a name up again.
#[derive(Debug, Serialize)]
pub(super) struct Alias {
    /// The alias, or the private listener while it is blocked.
    to: String,
    blocked: bool,
    url: String,
    resolver: String,
}

impl ServiceView {
    /// A service behind an alias.
    pub(super) fn of_alias(route: &AliasRoute, context: &NginxContext) -> Result<Self, Error> {
        let service = &*route.service;
        let is_blocked = route.admission == Admission::Blocked;
        let resolver = match (&context.resolver, route.target.socket_addr()) {
            (Some(resolver), None) => resolver.clone(),
            (_, Some(_)) => String::new(),
            (None, None) => {
                return Err(Error::Value {
                    key: "balancer.nginx.resolver".to_owned(),
                    rule: "is needed for a service with a `target`, and /etc/resolv.conf names no server that could stand for it: \
                           write the address of a DNS server, such as 127.0.0.11 in a Docker network",
                });
            }
        };
        let alias = Alias {
            to: if is_blocked {
                context.prove.to_string()
            } else {
                route.target.authority()
            },
            blocked: is_blocked,
            url: route.target.to_string(),
            resolver,
        };
        let mut view = Self::shaped(service)?;
        view.position = format!("behind the alias {}", route.target.authority());
        view.alias = Some(alias);
        Ok(view)
    }
}
