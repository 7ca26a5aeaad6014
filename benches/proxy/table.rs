//! What was measured: rows by measurement and proxy, and their medians.

use std::collections::BTreeMap;
use std::fmt;

use crate::peers::Kind;

/// One round of one measurement of one proxy.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row {
    /// Microseconds of CPU for each request.
    pub(crate) cpu_us: Option<f64>,
    pub(crate) per_second: Option<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// Bytes for each idle connection.
    pub(crate) idle_bytes: Option<f64>,
    /// Requests that were not answered with 2xx.
    pub(crate) failed: u64,
}

/// Everything, in the order in which it was measured.
#[derive(Debug, Default)]
pub(crate) struct Table {
    names: Vec<&'static str>,
    rows: BTreeMap<(usize, Kind), Vec<Row>>,
}

/// Lowest, median and highest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Table {
    pub(crate) fn add(&mut self, name: &'static str, kind: Kind, row: Row) {
        let place = self.names.iter().position(|known| *known == name);
        let place = place.unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        self.rows.entry((place, kind)).or_default().push(row);
    }

    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Over all rounds of a measurement.
    pub(crate) fn spread(
        &self,
        name: &str,
        kind: Kind,
        of: fn(&Row) -> Option<f64>,
    ) -> Option<Spread> {
        let place = self.names.iter().position(|known| *known == name)?;
        let mut values: Vec<f64> = self
            .rows
            .get(&(place, kind))?
            .iter()
            .filter_map(of)
            .collect();
        values.sort_by(f64::total_cmp);
        Some(Spread {
            low: *values.first()?,
            median: values[values.len() / 2],
            high: *values.last()?,
        })
    }

    fn failed(&self, name: &str, kind: Kind) -> u64 {
        let place = self.names.iter().position(|known| *known == name);
        let rows = place.and_then(|place| self.rows.get(&(place, kind)));
        rows.map_or(0, |rows| rows.iter().map(|row| row.failed).sum())
    }

    fn lines(
        &self,
        f: &mut fmt::Formatter<'_>,
        unit: &str,
        of: fn(&Row) -> Option<f64>,
    ) -> fmt::Result {
        for name in &self.names {
            let median = |kind| self.spread(name, kind, of).map(|spread| spread.median);
            if Kind::ALL.iter().all(|kind| median(*kind).is_none()) {
                continue;
            }
            let ours = median(Kind::Turnout).unwrap_or(f64::NAN);
            write!(f, "{name:<26} {unit:<14}")?;
            for kind in Kind::ALL {
                match self.spread(name, kind, of) {
                    Some(Spread { low, median, high }) => {
                        write!(f, " {median:>10.1} [{low:>8.1} {high:>9.1}]")?;
                    }
                    None => write!(f, "{:>32}", "-")?,
                }
            }
            let ratio = |kind| median(kind).map_or(f64::NAN, |theirs| ours / theirs);
            writeln!(
                f,
                " {:>7.2} {:>7.2}",
                ratio(Kind::Nginx),
                ratio(Kind::Haproxy)
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<26} {:<14}", "median [lowest highest]", "")?;
        for kind in Kind::ALL {
            write!(f, "{:>32}", kind.name())?;
        }
        writeln!(f, " {:>7} {:>7}", "/nginx", "/HAPr.")?;
        self.lines(f, "CPU us/request", |row| row.cpu_us)?;
        self.lines(f, "requests/s", |row| row.per_second)?;
        self.lines(f, "p50 us", |row| row.p50_us)?;
        self.lines(f, "p99 us", |row| row.p99_us)?;
        self.lines(f, "bytes/idle", |row| row.idle_bytes)?;
        for name in &self.names {
            for kind in Kind::ALL {
                let failed = self.failed(name, kind);
                if failed > 0 {
                    writeln!(f, "{name}: {} failed {failed} requests", kind.name())?;
                }
            }
        }
        Ok(())
    }
}
