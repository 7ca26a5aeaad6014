//! A color that a foreign file names (`state.follow`): a switch like any other, and tried again while it cannot be made.

use super::patience::Patience;
use super::task::{FOLLOWED, OWN_LOCK_WAIT, Task};
use super::{ChangeError, Origin, Request, Verb};
use crate::balancer::{Balancer, Progress};
use crate::domain::{Color, describe};

impl<B: Balancer> Task<B> {
    pub(super) async fn follow(&mut self, color: Color) {
        let Some(follow) = self.controller.config.follow.clone() else {
            self.refused = None;
            return;
        };
        let verb = Verb::Switch {
            service: Some(follow.service),
            to: Some(color),
        };
        let actor = format!("follow {}", follow.file.display());
        let request = Request {
            origin: Origin::Followed,
            lock_wait: OWN_LOCK_WAIT,
            ..Request::new(verb, actor)
        };
        let result = self.controller.change(&request, Progress::silent()).await;
        let before = self.controller.forget(FOLLOWED);
        self.refused = result.is_err().then_some(color);
        self.follows_later = match &result {
            Err(ChangeError::Apply(_)) => {
                let seen = self.controller.balancer.observe().await;
                Some(Patience::after(self.follows_later.take(), seen))
            }
            Ok(_) | Err(_) => None,
        };
        if let Err(error) = result {
            let text = format!("{FOLLOWED}{}", describe(&error));
            if before.as_ref() != Some(&text) {
                tracing::error!(error = text, %color, "the followed file names a color that was not switched to; trying again");
            }
            self.controller.problems.push(text);
        }
        self.publish().await;
    }
}
