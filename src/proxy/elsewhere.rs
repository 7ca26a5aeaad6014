//! A request whose alias led to addresses that take no connection: not a byte of it went out, so it waits for the name to be
//! looked up once more and goes to what that says. Waits in its own task; nobody else waits with it.

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;

use super::answer::Refusal;
use super::body::Upload;
use super::forward::attempt;
use super::lane::Lane;
use super::record::Record;
use super::thread::Thread;
use super::upstream::Lease;
use super::view::LocalRoute;

/// An answer with the connection it came on and the URL that the client is told.
pub(super) type Attempted = Result<(Response<Incoming>, Lease, HeaderValue), Failed>;

/// Why no server answered.
pub(super) struct Failed {
    pub(super) refusal: Refusal,
    /// The request, where not a byte of it went out.
    pub(super) unsent: Option<Box<Request<Upload>>>,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            unsent: None,
        }
    }
}

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
    Some(attempt(thread, &now, Lane::Alias, request, record).await)
}
