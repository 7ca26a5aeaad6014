//! The two colors, and a pair that holds one value for each. There are never more than two.

use std::fmt;
use std::ops::{Index, IndexMut, Not};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of the two sides of a service.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Always the first line of a split: see `domain::bucket`.
    Blue,
    /// Always the rest of a split.
    Green,
}

impl Color {
    /// Both colors, blue first: the one fixed order used wherever the two are listed.
    pub const BOTH: [Self; 2] = [Self::Blue, Self::Green];

    /// The lower-case name, as it stands in files, headers and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

impl Not for Color {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text was neither `blue` nor `green`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown color `{0}`: it is blue or green")]
pub struct ParseColorError(pub String);

impl FromStr for Color {
    type Err = ParseColorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "blue" => Ok(Self::Blue),
            "green" => Ok(Self::Green),
            other => Err(ParseColorError(other.to_owned())),
        }
    }
}

/// One value for each color.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema,
)]
pub struct Colors<T> {
    /// Blue's value.
    pub blue: T,
    /// Green's value.
    pub green: T,
}

impl<T> Colors<T> {
    /// Makes both values by asking for each color, blue first.
    pub fn from_fn(mut make: impl FnMut(Color) -> T) -> Self {
        Self {
            blue: make(Color::Blue),
            green: make(Color::Green),
        }
    }

    /// The values with their colors, blue first.
    pub fn iter(&self) -> impl Iterator<Item = (Color, &T)> {
        [(Color::Blue, &self.blue), (Color::Green, &self.green)].into_iter()
    }
}

impl<T> Index<Color> for Colors<T> {
    type Output = T;

    fn index(&self, color: Color) -> &T {
        match color {
            Color::Blue => &self.blue,
            Color::Green => &self.green,
        }
    }
}

impl<T> IndexMut<Color> for Colors<T> {
    fn index_mut(&mut self, color: Color) -> &mut T {
        match color {
            Color::Blue => &mut self.blue,
            Color::Green => &mut self.green,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_is_the_other_color_and_its_own_inverse() {
        assert_eq!(!Color::Blue, Color::Green);
        for color in Color::BOTH {
            assert_eq!(!!color, color);
        }
    }

    #[test]
    fn only_the_exact_lower_case_names_parse() {
        assert_eq!("green".parse(), Ok(Color::Green));
        for wrong in ["Green", "", "blue ", "red", "\u{ff42}lue"] {
            assert_eq!(
                wrong.parse::<Color>(),
                Err(ParseColorError(wrong.to_owned()))
            );
        }
    }
}
