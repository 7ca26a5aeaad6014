//! Every boundary that a split can have, to the basis point, as `split_clients` that stand in the configuration from the
//! start: so that nginx can be told which one counts without being told to load anything.
//!
//! One `split_clients` with 10,000 lines would not do. nginx adds up what each line's share is on its circle, rounded down
//! (`ngx_http_split_clients_module.c`), so a boundary that is reached in many steps lies below the one that a single line
//! has: up to 7,295 places in 2³² too low, and a few users would get another color than by a reload, or by the embedded
//! proxy. But a step of 85 basis points loses only 15/2000 of a place, since 0xffffffff / 10000 = 429496 + 1459/2000 and
//! 85 · 1459 = 15 mod 2000. So the boundaries go into chains `k, k + 85, k + 170, …`, and a chain ends where the rounding
//! would be felt: 159 chains with 9,999 boundaries, each exactly that of [`threshold`]. A variable that no request asks for
//! costs nginx 16 bytes in each request, and a chain is looked through line by line (60 on average).

use std::fmt::Write as _;
use std::sync::LazyLock;

use serde::Serialize;

use crate::domain::{Color, Split, threshold};

/// How many chains there are; a test counts them.
pub(super) const CHAINS: usize = 159;

/// From one boundary of a chain to the next, in basis points.
const STEP: u16 = 85;

/// The boundaries between everything and nothing.
const LAST: u16 = 9_999;

/// Boundaries that one `split_clients` has, in basis points, from the smallest.
type Chain = Vec<u16>;

static CHAINS_OF_ALL: LazyLock<Vec<Chain>> = LazyLock::new(chains);

static LADDER: LazyLock<Ladder> = LazyLock::new(Ladder::of_all);

fn chains() -> Vec<Chain> {
    let mut chains = Vec::with_capacity(CHAINS);
    for first in 1..=STEP {
        let mut chain = Chain::new();
        for points in (first..=LAST).step_by(usize::from(STEP)) {
            if let Some(before) = chain.last()
                && threshold(u32::from(*before)) + threshold(u32::from(STEP))
                    != threshold(u32::from(points))
            {
                chains.push(std::mem::take(&mut chain));
            }
            chain.push(points);
        }
        chains.push(chain);
    }
    chains
}

/// Where a split's boundary is on the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rung {
    /// The chain.
    pub(super) chain: usize,
    /// The place in it.
    pub(super) place: usize,
}

impl Rung {
    /// `None` for a split that is whole, which has no boundary.
    pub(super) fn of(split: Split) -> Option<Self> {
        let points = split.weight(Color::Blue).basis_points();
        let mut chains = CHAINS_OF_ALL.iter().enumerate();
        chains.find_map(|(chain, points_of)| {
            let place = points_of.iter().position(|found| *found == points)?;
            Some(Self { chain, place })
        })
    }
}

/// The ladder as the template writes it.
#[derive(Debug, Serialize)]
pub(super) struct Ladder {
    chains: Vec<Steps>,
    /// A regular expression for `PLACE:PAST` with numbers of three digits where the first is the smaller one: behind what
    /// they have in common, its digit is smaller.
    past: String,
}

/// One chain.
#[derive(Debug, Serialize)]
struct Steps {
    /// Its number, as a marker says it.
    id: String,
    /// The lines of its `split_clients`: the value of a key is how many boundaries of the chain it is past.
    lines: String,
}

impl Ladder {
    /// The same for every table.
    pub(super) fn whole() -> &'static Self {
        &LADDER
    }

    fn of_all() -> Self {
        let chains = CHAINS_OF_ALL.iter().enumerate().map(|(number, chain)| {
            let mut lines = String::new();
            let mut before = 0;
            for (place, points) in chain.iter().enumerate() {
                let share = points - before;
                // writing to a String cannot fail
                write!(lines, "{}.{:02}% {place:03}; ", share / 100, share % 100).ok();
                before = *points;
            }
            write!(lines, "* {:03};", chain.len()).ok();
            Steps {
                id: format!("{number:03}"),
                lines,
            }
        });
        let smaller: Vec<String> = (0..9)
            .map(|digit| format!("{digit}[0-9]*:\\1[{}-9]", digit + 1))
            .collect();
        Self {
            chains: chains.collect(),
            past: format!("^([0-9]*)(?:{})", smaller.join("|")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Weight;

    #[test]
    fn every_boundary_is_on_the_ladder_once_and_nginx_adds_up_to_it_exactly() {
        let chains = chains();
        assert_eq!(chains.len(), CHAINS);
        let mut all: Vec<u16> = chains.concat();
        all.sort_unstable();
        assert_eq!(all, (1..=LAST).collect::<Vec<_>>());
        for chain in &chains {
            let (mut sum, mut before) = (0, 0);
            for points in chain {
                // as nginx does it
                sum += threshold(u32::from(points - before));
                before = *points;
                assert_eq!(sum, threshold(u32::from(*points)), "{points}");
            }
        }
    }

    #[test]
    fn a_rung_is_the_boundary_of_its_split() {
        let split = |points| Split::giving(Color::Blue, Weight::from_basis_points(points).unwrap());
        let chains = chains();
        for points in [1, 85, 2_500, 5_000, 9_999] {
            let rung = Rung::of(split(points)).unwrap();
            assert_eq!(chains[rung.chain][rung.place], points);
        }
        assert_eq!(Rung::of(split(0)), None);
        assert_eq!(Rung::of(split(10_000)), None);
    }

    #[test]
    fn a_chain_is_written_in_steps() {
        let ladder = Ladder::whole();
        let lines = &ladder.chains[0].lines;
        assert!(
            lines.starts_with("0.01% 000; 0.85% 001; 0.85% 002; "),
            "{lines}"
        );
        assert!(ladder.past.starts_with("^([0-9]*)(?:0[0-9]*:\\1[1-9]|1"));
    }
}
