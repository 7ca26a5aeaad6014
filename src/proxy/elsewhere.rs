//! A request whose alias led to addresses that take no connection: not a byte of it went out, so it waits for the name to be
//! looked up once more and goes to what that says. Waits in its own task; nobody else waits with it.

use http::Request;

use super::attempt::{Attempted, attempt};
use super::early::Early;
use super::lane::Lane;
use super::record::Record;
use super::thread::Thread;
use super::upload::Upload;
use super::view::LocalRoute;

/// An address takes no connection, so the name is looked up at once: the next request may find it elsewhere.
pub(super) fn look(thread: &Thread, route: &LocalRoute) {
    if let Some(alias) = route.entry.alias()
        && let Some(followed) = thread.core().names.followed(&alias.target)
    {
        followed.hurry();
    }
}

/// The request at the addresses that the alias resolves to now; the refusal stays where those are the same ones, or the name is
/// not answered within `timeouts.connect`.
pub(super) async fn attempt_again(
    thread: &Thread,
    route: &LocalRoute,
    request: Box<Request<Upload>>,
    early: &Early,
    record: &mut Option<Record>,
) -> Option<Attempted> {
    let target = &route.entry.alias()?.target;
    let mut followed = thread.core().names.followed(target)?;
    let known = followed.anew(route.entry.timeouts.connect).await?;
    // whoever hears of it first puts it into force
    if thread.core().names.learn(target, &known) {
        thread.core().readdress();
    }
    let view = thread.view();
    let now = view.named(&route.entry.name)?;
    if !now.entry.is_elsewhere(&route.entry) {
        return None;
    }
    Some(attempt(thread, &now, Lane::Alias, request, early, record).await)
}
