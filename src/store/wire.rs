//! The forms on disk of the state, and the seal that tells a whole document from a damaged one.
//!
//! Every document is a JSON object with a version and a `sha256` over the rest of it, written compactly in its own order.
//! So a flipped bit that leaves valid JSON is still recognised, and white space does not matter. Keys that this version
//! does not know are refused: a later turnout that adds one counts the version up. The runtime types are not serde; there
//! is one conversion each way, here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{AliasState, DoorSeen, Governed, ServiceState, State};
use crate::domain::{
    Color, Colors, Generation, Position, ServiceName, ShapeDigest, Split, Strategy, Traffic,
};

/// The version of every document in the state directory.
pub(super) const VERSION: u64 = 1;

/// Why a document is not to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Defect {
    /// Damaged, or never was one.
    Damaged(String),
    /// Of this later version.
    Newer(u64),
}

impl From<serde_json::Error> for Defect {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged(format!("it is not the JSON that it should be: {error}"))
    }
}

fn digest(document: &Map<String, Value>) -> Result<String, serde_json::Error> {
    Ok(sum(&serde_json::to_vec(document)?))
}

/// SHA-256 in hexadecimal digits.
pub(super) fn sum(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

/// `body` with the version under `key` in front and the checksum behind.
pub(super) fn seal(key: &str, body: &impl Serialize) -> Result<Value, serde_json::Error> {
    let mut document = Map::new();
    document.insert(key.to_owned(), Value::from(VERSION));
    let Value::Object(fields) = serde_json::to_value(body)? else {
        return Err(serde::ser::Error::custom("only an object can be sealed"));
    };
    document.extend(fields);
    let sum = digest(&document)?;
    document.insert("sha256".to_owned(), Value::from(sum));
    Ok(Value::Object(document))
}

/// What [`seal`] sealed.
pub(super) fn unseal<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Defect> {
    if bytes.is_empty() {
        return Err(Defect::Damaged("it is empty".to_owned()));
    }
    let mut document: Map<String, Value> = serde_json::from_slice(bytes)?;
    let Some(version) = document.get(key).and_then(Value::as_u64) else {
        return Err(Defect::Damaged("it has no version".to_owned()));
    };
    let sum = document.shift_remove("sha256");
    let whole = |document: &Map<String, Value>| -> Result<bool, Defect> {
        Ok(sum.as_ref().and_then(Value::as_str) == Some(digest(document)?.as_str()))
    };
    if version > VERSION {
        // a later version may seal otherwise, so its checksum proves nothing; but where the checksum holds for this
        // version, it is the version's digit that was damaged
        document.insert(key.to_owned(), Value::from(VERSION));
        return Err(if whole(&document)? {
            Defect::Damaged("its checksum does not match".to_owned())
        } else {
            Defect::Newer(version)
        });
    }
    if version != VERSION || !whole(&document)? {
        return Err(Defect::Damaged("its checksum does not match".to_owned()));
    }
    document.shift_remove(key);
    Ok(serde_json::from_value(Value::Object(document))?)
}

/// The state in `state.json` and in the journal's snapshots.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateWire {
    generation: Generation,
    balancer: Option<String>,
    services: BTreeMap<ServiceName, ServiceWire>,
    /// Left out where there are none, so that a turnout that knows no aliases reads the state of one that has none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    aliases: BTreeMap<ServiceName, AliasState>,
}

/// One service in `state.json` and in the journal's intents.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "ServiceFields", into = "ServiceFields")]
pub(super) struct ServiceWire(pub(super) ServiceState);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceFields {
    strategy: Strategy,
    active: Color,
    weights: Split,
    previous: Option<Color>,
    overlay: Option<Color>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    refused: BTreeSet<Color>,
    /// Absent where nothing was forced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forced: Option<Color>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<ShapeDigest>,
    #[serde(default, skip_serializing_if = "DoorSeen::is_own")]
    front_door: DoorSeen,
    /// Left out while open, so that a turnout that does not know it reads the state of one that does not use it.
    #[serde(default, skip_serializing_if = "Traffic::is_open")]
    traffic: Traffic,
    versions: Colors<Option<String>>,
    /// Null where there is none, which a turnout that knows no rollouts reads.
    rollout: Option<Governed>,
    since: Timestamp,
}

impl From<ServiceWire> for ServiceFields {
    fn from(ServiceWire(state): ServiceWire) -> Self {
        Self {
            strategy: state.position.strategy(),
            active: state.position.active(),
            weights: state.position.split(),
            previous: state.previous,
            overlay: state.overlay,
            refused: state.refused,
            forced: state.forced,
            shape: state.shape,
            front_door: state.door,
            traffic: state.traffic,
            versions: state.versions,
            rollout: state.rollout,
            since: state.since,
        }
    }
}

impl TryFrom<ServiceFields> for ServiceWire {
    type Error = String;

    fn try_from(fields: ServiceFields) -> Result<Self, Self::Error> {
        let (active, weights) = (fields.active, fields.weights);
        let position = match fields.strategy {
            Strategy::BlueGreen => Position::BlueGreen { active },
            Strategy::Canary => Position::canary(active, weights),
        };
        if position.split() != weights || position.active() != active {
            return Err(format!(
                "{} with active {active} cannot have the weights {weights}",
                fields.strategy
            ));
        }
        Ok(Self(ServiceState {
            position,
            previous: fields.previous,
            overlay: fields.overlay,
            refused: fields.refused,
            forced: fields.forced,
            shape: fields.shape,
            door: fields.front_door,
            traffic: fields.traffic,
            versions: fields.versions,
            rollout: fields.rollout,
            since: fields.since,
        }))
    }
}

impl From<&State> for StateWire {
    fn from(state: &State) -> Self {
        Self {
            generation: state.generation,
            balancer: state.balancer.clone(),
            services: to_wire(&state.services),
            aliases: state.aliases.clone(),
        }
    }
}

impl From<StateWire> for State {
    fn from(wire: StateWire) -> Self {
        Self {
            generation: wire.generation,
            balancer: wire.balancer,
            services: from_wire(wire.services),
            aliases: wire.aliases,
        }
    }
}

/// Services for the disk.
pub(super) fn to_wire(
    services: &BTreeMap<ServiceName, ServiceState>,
) -> BTreeMap<ServiceName, ServiceWire> {
    let wired = services.iter();
    wired
        .map(|(name, state)| (name.clone(), ServiceWire(state.clone())))
        .collect()
}

/// Services from the disk.
pub(super) fn from_wire(
    services: BTreeMap<ServiceName, ServiceWire>,
) -> BTreeMap<ServiceName, ServiceState> {
    let wired = services.into_iter();
    wired
        .map(|(name, ServiceWire(state))| (name, state))
        .collect()
}

/// The bytes of `state.json`.
pub(super) fn encode(state: &State) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec_pretty(&seal("version", &StateWire::from(state))?)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The state in the bytes of `state.json`.
pub(super) fn decode(bytes: &[u8]) -> Result<State, Defect> {
    unseal::<StateWire>("version", bytes).map(State::from)
}
