//! The weights of blue and green. They add up to the whole by construction: only blue's share is stored.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Color, Colors};

/// A share of the traffic in basis points, `0..=10_000`. Printed and read as percent with up to two decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, utoipa::ToSchema)]
#[schema(value_type = f64, minimum = 0, maximum = 100, multiple_of = 0.01)]
pub struct Weight(u16);

impl Weight {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All of it: 10,000 basis points.
    pub const WHOLE: Self = Self(10_000);

    /// A weight from basis points; `None` above 10,000.
    pub const fn from_basis_points(points: u16) -> Option<Self> {
        if points <= Self::WHOLE.0 {
            Some(Self(points))
        } else {
            None
        }
    }

    /// A weight from percent. Refuses NaN, infinity, what is outside `0..=100` and more than two decimals.
    pub fn from_percent(percent: f64) -> Result<Self, SplitError> {
        if !percent.is_finite() || !(0.0..=100.0).contains(&percent) {
            return Err(SplitError::OutOfRange(percent));
        }
        let points = (percent * 100.0).round();
        if (points / 100.0 - percent).abs() > 1e-9 {
            return Err(SplitError::TooFine(percent));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within 0..=10_000 by the check above"
        )]
        Ok(Self(points as u16))
    }

    /// Basis points, `0..=10_000`.
    pub const fn basis_points(self) -> u16 {
        self.0
    }

    /// Percent, `0.0..=100.0`.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// What is left of the whole.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(Self::WHOLE.0 - self.0)
    }
}

impl fmt::Display for Weight {
    /// Percent without a sign and without trailing zeros: `25`, `0.01`, `99.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match (part, part % 10) {
            (0, _) => write!(f, "{whole}"),
            (_, 0) => write!(f, "{whole}.{}", part / 10),
            _ => write!(f, "{whole}.{part:02}"),
        }
    }
}

impl Serialize for Weight {
    /// A JSON number in percent; a whole one without a decimal point.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(100) {
            serializer.serialize_u16(self.0 / 100)
        } else {
            serializer.serialize_f64(self.percent())
        }
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_percent(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Why two numbers are not a split.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum SplitError {
    /// NaN, infinite, negative or above 100.
    #[error("a weight is a number from 0 to 100, not {0}")]
    OutOfRange(f64),
    /// Finer than 0.01 %, the grid of nginx's `split_clients`.
    #[error("a weight has at most two decimals, {0} has more")]
    TooFine(f64),
    /// The two do not make 100.
    #[error("blue {blue} and green {green} add up to {}, not 100 (normalize scales them)", blue + green)]
    Sum {
        /// Blue's percent as given.
        blue: f64,
        /// Green's percent as given.
        green: f64,
    },
    /// Both zero (or their sum is not a positive number), so there is nothing to scale.
    #[error("blue {blue} and green {green} cannot be scaled to 100")]
    NothingToScale {
        /// Blue's number as given.
        blue: f64,
        /// Green's number as given.
        green: f64,
    },
}

/// How the traffic is divided. Blue and green always add up to [`Weight::WHOLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Split {
    blue: Weight,
}

impl Split {
    /// Everything to one color.
    pub const fn all(color: Color) -> Self {
        match color {
            Color::Blue => Self {
                blue: Weight::WHOLE,
            },
            Color::Green => Self { blue: Weight::ZERO },
        }
    }

    /// `weight` to `color`, the rest to the other one.
    pub const fn giving(color: Color, weight: Weight) -> Self {
        match color {
            Color::Blue => Self { blue: weight },
            Color::Green => Self {
                blue: weight.rest(),
            },
        }
    }

    /// A split from two percentages that must add up to 100.
    pub fn from_percents(blue: f64, green: f64) -> Result<Self, SplitError> {
        let (blue_weight, green_weight) =
            (Weight::from_percent(blue)?, Weight::from_percent(green)?);
        if blue_weight.rest() == green_weight {
            Ok(Self { blue: blue_weight })
        } else {
            Err(SplitError::Sum { blue, green })
        }
    }

    /// A split from two non-negative numbers, scaled to 100 and rounded to 0.01 %. A color given more than nothing keeps
    /// at least 0.01 %.
    pub fn normalized(blue: f64, green: f64) -> Result<Self, SplitError> {
        for given in [blue, green] {
            if !given.is_finite() || given < 0.0 {
                return Err(SplitError::OutOfRange(given));
            }
        }
        let sum = blue + green;
        if !sum.is_finite() || sum <= 0.0 {
            return Err(SplitError::NothingToScale { blue, green });
        }
        let low = if blue > 0.0 { 1.0 } else { 0.0 };
        let high = if green > 0.0 { 9_999.0 } else { 10_000.0 };
        let points = (blue / sum * 10_000.0).round().clamp(low, high);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=10_000"
        )]
        Ok(Self {
            blue: Weight(points as u16),
        })
    }

    /// The weight of one color.
    pub const fn weight(self, color: Color) -> Weight {
        match color {
            Color::Blue => self.blue,
            Color::Green => self.blue.rest(),
        }
    }

    /// Both weights.
    pub fn weights(self) -> Colors<Weight> {
        Colors::from_fn(|color| self.weight(color))
    }

    /// The color that has everything, if one does.
    pub const fn whole(self) -> Option<Color> {
        match self.blue {
            Weight::WHOLE => Some(Color::Blue),
            Weight::ZERO => Some(Color::Green),
            Weight(_) => None,
        }
    }

    /// `delta` percent points more (or, negative, fewer) for `towards`, clamped to 0..=100, the other one the rest.
    pub fn shifted(self, towards: Color, delta: f64) -> Result<Self, SplitError> {
        if !delta.is_finite() {
            return Err(SplitError::OutOfRange(delta));
        }
        let target = (self.weight(towards).percent() + delta).clamp(0.0, 100.0);
        let rounded = (target * 100.0).round() / 100.0;
        Ok(Self::giving(towards, Weight::from_percent(rounded)?))
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blue {}% green {}%", self.blue, self.blue.rest())
    }
}

impl Serialize for Split {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.weights().serialize(serializer)
    }
}

/// Two weights on the wire.
impl utoipa::PartialSchema for Split {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        Colors::<Weight>::schema()
    }
}

impl utoipa::ToSchema for Split {
    fn schemas(into: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
        let weight = <Weight as utoipa::PartialSchema>::schema();
        into.push((<Weight as utoipa::ToSchema>::name().into(), weight));
        Colors::<Weight>::schemas(into);
    }
}

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Percents {
            blue: f64,
            green: f64,
        }
        let Percents { blue, green } = Percents::deserialize(deserializer)?;
        Self::from_percents(blue, green).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_print_as_the_shortest_percent() {
        for (points, text) in [
            (0, "0"),
            (1, "0.01"),
            (10, "0.1"),
            (2_500, "25"),
            (9_999, "99.99"),
            (9_950, "99.5"),
            (10_000, "100"),
        ] {
            let weight = Weight::from_basis_points(points).unwrap();
            assert_eq!(weight.to_string(), text);
            assert_eq!(Weight::from_percent(text.parse().unwrap()), Ok(weight));
        }
        assert_eq!(Weight::from_basis_points(10_001), None);
    }

    #[test]
    fn what_is_not_a_share_is_refused() {
        for bad in [-0.01, 100.01, f64::INFINITY] {
            assert_eq!(Weight::from_percent(bad), Err(SplitError::OutOfRange(bad)));
        }
        assert!(matches!(
            Weight::from_percent(f64::NAN),
            Err(SplitError::OutOfRange(_))
        ));
        assert_eq!(Weight::from_percent(0.005), Err(SplitError::TooFine(0.005)));
        assert_eq!(
            Split::from_percents(80.0, 30.0),
            Err(SplitError::Sum {
                blue: 80.0,
                green: 30.0
            })
        );
        assert_eq!(
            Split::normalized(0.0, 0.0),
            Err(SplitError::NothingToScale {
                blue: 0.0,
                green: 0.0
            })
        );
        assert_eq!(
            Split::normalized(-1.0, 2.0),
            Err(SplitError::OutOfRange(-1.0))
        );
    }

    #[test]
    fn normalizing_keeps_the_ratio_and_never_silences_a_color() {
        assert_eq!(
            Split::normalized(1.0, 3.0),
            Split::from_percents(25.0, 75.0)
        );
        assert_eq!(
            Split::normalized(1.0, 1e9)
                .unwrap()
                .weight(Color::Blue)
                .basis_points(),
            1
        );
        assert_eq!(
            Split::normalized(1e9, 1.0)
                .unwrap()
                .weight(Color::Green)
                .basis_points(),
            1
        );
        assert_eq!(Split::normalized(5.0, 0.0), Ok(Split::all(Color::Blue)));
    }

    #[test]
    fn a_shift_is_clamped_at_both_ends() {
        let split = Split::from_percents(80.0, 20.0).unwrap();
        assert_eq!(
            split.shifted(Color::Green, 10.0),
            Split::from_percents(70.0, 30.0)
        );
        assert_eq!(
            split.shifted(Color::Green, 500.0),
            Ok(Split::all(Color::Green))
        );
        assert_eq!(
            split.shifted(Color::Green, -500.0),
            Ok(Split::all(Color::Blue))
        );
        assert!(split.shifted(Color::Green, f64::NAN).is_err());
    }

    proptest::proptest! {
        #[test]
        fn the_two_always_make_the_whole(points in 0_u16..=10_000, delta in -300.0..300.0_f64) {
            let split = Split::giving(Color::Blue, Weight::from_basis_points(points).unwrap());
            let shifted = split.shifted(Color::Green, delta).unwrap();
            let weights = shifted.weights();
            proptest::prop_assert_eq!(weights.blue.basis_points() + weights.green.basis_points(), 10_000);
        }
    }
}
