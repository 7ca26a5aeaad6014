//! The sizes of nginx's hash tables, where its defaults are too small for so many or so long names. nginx refuses to start
//! with the one and warns of the other.

use serde::Serialize;

use super::NginxContext;
use super::ladder::CHAINS;
use super::view::{Listener, ServiceView, StickyView};

/// The longest name that fits a hash bucket of 64 bytes: a pointer, a length of two bytes, aligned to 8, and an end mark
/// (`NGX_HASH_ELT_SIZE` in `src/core/ngx_hash.c`).
const LONGEST_IN_BUCKET_64: usize = 46;

#[derive(Debug, Serialize)]
pub(super) struct Hash {
    directive: &'static str,
    size: usize,
}

/// Hash sizes that nginx's defaults do not cover, but for those that the user has set: a second one is an error.
pub(super) fn hashes(
    views: &[ServiceView],
    stickies: &[StickyView],
    listeners: &[Listener<'_>],
    context: &NginxContext,
) -> Vec<Hash> {
    let longest_variable = views
        .iter()
        .map(|view| view.id.len())
        .chain(stickies.iter().map(|sticky| sticky.id.len()))
        .max()
        .unwrap_or(0)
        + "turnout__split_".len();
    let longest_host = views
        .iter()
        .flat_map(|view| &view.hosts)
        .map(String::len)
        .max()
        .unwrap_or(0);
    // nginx itself and its modules define about 150; two for each service and four for each pair are the template's most
    let mut variables = 150 + 2 * views.len() + 4 * stickies.len();
    if context.markers.is_some() {
        variables += 2 * views.len() + CHAINS + 10;
    }
    if context.counts.is_some() {
        variables += 5;
    }
    let names = listeners
        .iter()
        .map(|listener| {
            listener
                .services
                .iter()
                .map(|view| view.hosts.len().max(1))
                .sum()
        })
        .max()
        .unwrap_or(0);
    // half of the defaults: up to there nginx finds a table by itself; above, it warns and goes on with a slower one
    // the ladder's names take half a bucket of 64 bytes each, of which it finds no table either
    let (many_variables, many_names) = (variables > 512 || context.markers.is_some(), names > 256);
    // a bucket of 64 bytes holds one or two names, so many names need wider ones; room that is not used costs nothing
    let bucket = |longest: usize, many: bool| {
        (longest > LONGEST_IN_BUCKET_64 || many).then(|| {
            (longest + 32)
                .next_power_of_two()
                .max(if many { 512 } else { 128 })
        })
    };
    let table = |elements: usize, many: bool| many.then(|| (elements * 2).next_power_of_two());
    [
        (
            "variables_hash_bucket_size",
            bucket(longest_variable, many_variables),
        ),
        ("variables_hash_max_size", table(variables, many_variables)),
        (
            "server_names_hash_bucket_size",
            bucket(longest_host, many_names),
        ),
        ("server_names_hash_max_size", table(names, many_names)),
    ]
    .into_iter()
    .filter(|(directive, _)| !context.already_set.contains(directive))
    .filter_map(|(directive, size)| size.map(|size| Hash { directive, size }))
    .collect()
}
