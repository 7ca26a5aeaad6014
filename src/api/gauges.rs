//! Gauges and facts as the metrics write them: with labels, without, and nothing at all where there is no value.

use std::fmt::Error;

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet};
use prometheus_client::metrics::MetricType;

/// A gauge with labels; nothing at all where it has no value.
pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
    to: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    values: impl Iterator<Item = (L, V)>,
) -> Result<(), Error> {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

/// A gauge without labels.
pub(super) fn one<V: EncodeGaugeValue>(
    to: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    value: Option<V>,
) -> Result<(), Error> {
    let Some(value) = value else {
        return Ok(());
    };
    to.encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&value)
}

/// Facts in labels, each with the value 1.
pub(super) fn infos<L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    values: impl Iterator<Item = L>,
) -> Result<(), Error> {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut family = to.encode_descriptor(name, help, None, MetricType::Info)?;
    for labels in values {
        family.encode_info(&labels)?;
    }
    Ok(())
}
