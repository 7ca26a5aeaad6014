//! Where a request of a service goes once it is routed: to one of its colors, or to its alias. A service has one kind or the
//! other; what is kept for the kind that it has not is empty and costs a few words.

use std::fmt;
use std::ops::Index;

use crate::domain::{Color, Colors};

/// Where one request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Color(Color),
    Alias,
}

impl Lane {
    /// Every lane there is.
    pub(super) const ALL: [Self; 3] = [
        Self::Color(Color::Blue),
        Self::Color(Color::Green),
        Self::Alias,
    ];

    /// The color, where it is one: what stands behind an alias has none that turnout knows.
    pub(super) const fn color(self) -> Option<Color> {
        match self {
            Self::Color(color) => Some(color),
            Self::Alias => None,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Color(color) => color.fmt(f),
            Self::Alias => f.pad("alias"),
        }
    }
}

/// One thing for each lane.
#[derive(Debug, Default)]
pub(super) struct Lanes<T> {
    colors: Colors<T>,
    alias: T,
}

impl<T> Lanes<T> {
    pub(super) fn from_fn(mut make: impl FnMut(Lane) -> T) -> Self {
        Self {
            colors: Colors::from_fn(|color| make(Lane::Color(color))),
            alias: make(Lane::Alias),
        }
    }
}

impl<T> Index<Lane> for Lanes<T> {
    type Output = T;

    fn index(&self, lane: Lane) -> &T {
        match lane {
            Lane::Color(color) => &self.colors[color],
            Lane::Alias => &self.alias,
        }
    }
}
