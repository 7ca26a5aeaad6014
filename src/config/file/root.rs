//! The top of the file, of a fragment, and the JSON Schema of both.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{Balancer, Service};

/// A turnout configuration. Durations are written `500ms`, `5s`, `1m 30s`; `${VAR}` and `${VAR:-default}` expand inside
/// values; relative paths start from the file they stand in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "turnout.yaml")]
pub(in crate::config) struct Root {
    /// The version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub(in crate::config) version: Option<u32>,
    /// Where turnout remembers positions.
    pub(in crate::config) state: Option<State>,
    /// What carries the traffic.
    pub(in crate::config) balancer: Option<Balancer>,
    /// The control API.
    pub(in crate::config) control: Option<Control>,
    /// CIDRs whose X-Forwarded-* headers are believed. Default: none.
    pub(in crate::config) trusted_proxies: Option<Vec<Option<String>>>,
    /// The services by name.
    pub(in crate::config) services: Option<BTreeMap<String, Option<Service>>>,
    /// Fragments with a `services:` map, as paths or patterns such as `services.d/*.yaml`.
    pub(in crate::config) include: Option<Vec<Option<String>>>,
}

/// A fragment: what `include` reads.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Fragment {
    /// The services by name.
    pub(in crate::config) services: Option<BTreeMap<String, Option<Service>>>,
}

/// Where turnout remembers positions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct State {
    /// The state directory. Default: /var/lib/turnout.
    pub(in crate::config) dir: Option<String>,
    /// Another tool's JSON file is the source of the active color.
    pub(in crate::config) follow: Option<Follow>,
}

/// A foreign JSON file whose field holds `blue` or `green`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Follow {
    /// The JSON file.
    pub(in crate::config) file: String,
    /// The field that holds the color.
    pub(in crate::config) field: String,
    /// Whose color it is. Default: the only service.
    pub(in crate::config) service: Option<String>,
}

/// The control API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Control {
    /// `IP:PORT` or `unix:/path`. Default: `127.0.0.1:9180`.
    pub(in crate::config) listen: Option<String>,
    /// Names this API may be called by, besides its address and localhost.
    pub(in crate::config) hosts: Option<Vec<Option<String>>>,
    /// Who may call it.
    pub(in crate::config) tokens: Option<Vec<Option<Token>>>,
}

/// A bearer token: one of `file`, `env` and `credential` holds the secret (or `sha256:` and its digest), or `sha256` is its
/// digest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Token {
    /// Its name, shown as the actor.
    pub(in crate::config) name: String,
    /// The file that holds the secret; not readable by the world.
    pub(in crate::config) file: Option<String>,
    /// The environment variable that holds the secret when the daemon starts; one that begins with `TURNOUT_` is not passed on
    /// to workloads.
    pub(in crate::config) env: Option<String>,
    /// The systemd credential that holds the secret (`LoadCredential=`, `SetCredentialEncrypted=`).
    pub(in crate::config) credential: Option<String>,
    /// SHA-256 of the secret, 64 hexadecimal digits.
    pub(in crate::config) sha256: Option<String>,
    /// What it may do.
    pub(in crate::config) may: Vec<Option<May>>,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum May {
    Read,
    Write,
}

/// The schema that files are held against.
pub(in crate::config) fn shape_of(fragment: bool) -> &'static Json {
    static ROOT: LazyLock<Json> = LazyLock::new(generated::<Root>);
    static FRAGMENT: LazyLock<Json> = LazyLock::new(generated::<Fragment>);
    if fragment { &FRAGMENT } else { &ROOT }
}

fn generated<T: JsonSchema>() -> Json {
    SchemaGenerator::new(SchemaSettings::draft2020_12())
        .into_root_schema_for::<T>()
        .to_value()
}

/// The JSON Schema of `turnout.yaml`, as `turnout schema` prints it: whatever is not a text may also be one with a `${VAR}`
/// in it, because values expand only after reading.
pub fn schema() -> Json {
    let mut schema = shape_of(false).clone();
    admit_variables(&mut schema);
    schema
}

fn admit_variables(schema: &mut Json) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(admit_variables),
        Json::Object(map) => {
            map.values_mut().for_each(admit_variables);
            let scalar = |kind: &Json| {
                ["integer", "number", "boolean"]
                    .iter()
                    .any(|name| kind == name)
            };
            let typed = match map.get("type") {
                Some(Json::Array(kinds)) => {
                    kinds.iter().any(scalar) && !kinds.iter().any(|kind| kind == "string")
                }
                Some(kind) => scalar(kind) || map.contains_key("enum"),
                None => false,
            };
            if typed {
                let strict = std::mem::take(map);
                *schema =
                    json!({ "anyOf": [strict, { "type": "string", "pattern": r"\$\{[A-Za-z_]" }] });
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}
