//! The last status, for everybody who looks: replaced whole, and what is new in it told as events.

use std::sync::Arc;

use super::task::Task;
use super::tend::tell_drift;
use crate::balancer::Balancer;
use crate::domain::describe;

impl<B: Balancer> Task<B> {
    /// Reads state, disk and balancer anew.
    pub(super) async fn publish(&mut self) {
        match self.controller.daemon_status().await {
            Ok(status) => {
                tell_drift(&self.status.borrow(), &status);
                let status = Arc::new(status);
                let before = self.status.send_replace(Arc::clone(&status));
                // who looks at the status because of an event finds it there
                self.controller.events.tell_news(&before, &status);
            }
            Err(error) => {
                let text = describe(&error);
                let mut status = (**self.status.borrow()).clone();
                if !status.problems.contains(&text) {
                    tracing::error!(error = text, "the status cannot be told");
                    status.problems.push(text);
                    self.status.send_replace(Arc::new(status));
                }
            }
        }
    }

    /// What is known of aliases into the last status: no file is read and no balancer asked.
    pub(super) fn publish_aliases(&self) {
        self.status.send_modify(|status| {
            Arc::make_mut(status).aliases = self.controller.alias_statuses();
        });
    }
}
