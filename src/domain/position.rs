//! Where the traffic of a service is: strategy, active color and split, as one value.
//!
//! One position, never two: under `blue_green` the split follows from the active color, so it is not stored there. Every
//! way to move traffic is a method here that returns the new position and never touches anything.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Color, Split, SplitError};

/// How a service divides its traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// All of it to the active color.
    BlueGreen,
    /// By split.
    Canary,
}

impl Strategy {
    /// The name used in files, on the command line and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BlueGreen => "blue_green",
            Self::Canary => "canary",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where the traffic of one service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Position {
    /// All of it on one color.
    BlueGreen {
        /// The color that serves.
        active: Color,
    },
    /// Divided. `active` is the stable color, and becomes the other one when that reaches the whole.
    Canary {
        /// The stable color.
        active: Color,
        /// The division; never everything on the color that is not active.
        split: Split,
    },
}

/// Why a position cannot move as asked.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PositionError {
    /// Weights were given for a service that has none.
    #[error(
        "the strategy is blue_green, which has no weights: use `switch`, or set the strategy to canary first"
    )]
    NoWeights,
    /// The numbers are not a split.
    #[error("the weights are not a split")]
    Split(#[from] SplitError),
}

impl Position {
    /// All traffic on `active` under `strategy`.
    pub const fn all(strategy: Strategy, active: Color) -> Self {
        match strategy {
            Strategy::BlueGreen => Self::BlueGreen { active },
            Strategy::Canary => Self::Canary {
                active,
                split: Split::all(active),
            },
        }
    }

    /// A canary position from a split: a color that has everything is the active one.
    pub const fn canary(active: Color, split: Split) -> Self {
        match split.whole() {
            Some(whole) => Self::Canary {
                active: whole,
                split,
            },
            None => Self::Canary { active, split },
        }
    }

    /// The strategy in force.
    pub const fn strategy(self) -> Strategy {
        match self {
            Self::BlueGreen { .. } => Strategy::BlueGreen,
            Self::Canary { .. } => Strategy::Canary,
        }
    }

    /// The active (under canary: stable) color.
    pub const fn active(self) -> Color {
        match self {
            Self::BlueGreen { active } | Self::Canary { active, .. } => active,
        }
    }

    /// The division of the traffic.
    pub const fn split(self) -> Split {
        match self {
            Self::BlueGreen { active } => Split::all(active),
            Self::Canary { split, .. } => split,
        }
    }

    /// Everything to `color`, under the strategy that is in force.
    #[must_use]
    pub const fn switched(self, color: Color) -> Self {
        Self::all(self.strategy(), color)
    }

    /// Another strategy from where the traffic is: to canary, all on the active color; to `blue_green`, all on `active`.
    #[must_use]
    pub fn with_strategy(self, strategy: Strategy) -> Self {
        if strategy == self.strategy() {
            self
        } else {
            Self::all(strategy, self.active())
        }
    }

    /// Another split; refused under `blue_green`.
    pub const fn with_split(self, split: Split) -> Result<Self, PositionError> {
        match self {
            Self::BlueGreen { .. } => Err(PositionError::NoWeights),
            Self::Canary { active, .. } => Ok(Self::canary(active, split)),
        }
    }

    /// `delta` percent points more for `towards`; refused under `blue_green`.
    pub fn shifted(self, towards: Color, delta: f64) -> Result<Self, PositionError> {
        match self {
            Self::BlueGreen { .. } => Err(PositionError::NoWeights),
            Self::Canary { active, split } => {
                Ok(Self::canary(active, split.shifted(towards, delta)?))
            }
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlueGreen { active } => write!(f, "blue_green {active}"),
            Self::Canary { active, split } => write!(f, "canary {active} ({split})"),
        }
    }
}

/// The form in state file, journal and API: `{strategy, active, weights}`.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Flat {
    strategy: Strategy,
    active: Color,
    weights: Split,
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Flat {
            strategy: self.strategy(),
            active: self.active(),
            weights: self.split(),
        }
        .serialize(serializer)
    }
}

impl utoipa::PartialSchema for Position {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        Flat::schema()
    }
}

impl utoipa::ToSchema for Position {
    fn schemas(into: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
        Flat::schemas(into);
    }
}

impl<'de> Deserialize<'de> for Position {
    /// Refuses what no position can be, such as `blue_green` with a divided split.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Flat {
            strategy,
            active,
            weights,
        } = Flat::deserialize(deserializer)?;
        let position = match strategy {
            Strategy::BlueGreen => Self::BlueGreen { active },
            Strategy::Canary => Self::canary(active, weights),
        };
        if position.split() == weights && position.active() == active {
            Ok(position)
        } else {
            Err(serde::de::Error::custom(format_args!(
                "{strategy} with active {active} cannot have the weights {weights}"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(active: Color, blue: f64) -> Position {
        Position::canary(active, Split::from_percents(blue, 100.0 - blue).unwrap())
    }

    #[test]
    fn canary_starts_where_the_traffic_is_and_blue_green_puts_all_on_active() {
        let start = Position::BlueGreen {
            active: Color::Green,
        };
        let canary_start = start.with_strategy(Strategy::Canary);
        assert_eq!(canary_start, canary(Color::Green, 0.0));
        let divided = canary_start.shifted(Color::Blue, 30.0).unwrap();
        assert_eq!(divided, canary(Color::Green, 30.0));
        assert_eq!(divided.with_strategy(Strategy::BlueGreen), start);
        assert_eq!(divided.with_strategy(Strategy::Canary), divided);
    }

    #[test]
    fn the_other_color_becomes_active_when_it_reaches_the_whole() {
        let nearly = canary(Color::Blue, 0.01);
        assert_eq!(nearly.active(), Color::Blue);
        assert_eq!(
            nearly.shifted(Color::Green, 5.0).unwrap(),
            canary(Color::Green, 0.0)
        );
    }

    #[test]
    fn weights_are_refused_under_blue_green() {
        let position = Position::BlueGreen {
            active: Color::Blue,
        };
        assert_eq!(
            position.with_split(Split::all(Color::Green)),
            Err(PositionError::NoWeights)
        );
        assert_eq!(
            position.shifted(Color::Green, 1.0),
            Err(PositionError::NoWeights)
        );
    }

    #[test]
    fn json_round_trips_and_refuses_the_impossible() {
        for position in [
            Position::BlueGreen {
                active: Color::Green,
            },
            canary(Color::Blue, 99.99),
            canary(Color::Green, 0.0),
        ] {
            let text = serde_json::to_string(&position).unwrap();
            assert_eq!(
                serde_json::from_str::<Position>(&text).unwrap(),
                position,
                "{text}"
            );
        }
        for wrong in [
            r#"{"strategy":"blue_green","active":"blue","weights":{"blue":50,"green":50}}"#,
            r#"{"strategy":"canary","active":"blue","weights":{"blue":0,"green":100}}"#,
            r#"{"strategy":"canary","active":"blue","weights":{"blue":60,"green":60}}"#,
            r#"{"strategy":"canary","active":"red","weights":{"blue":60,"green":40}}"#,
        ] {
            assert!(serde_json::from_str::<Position>(wrong).is_err(), "{wrong}");
        }
    }
}
