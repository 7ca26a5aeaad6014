//! `render` and `reload` apart: the next configuration kept for people to look at, and put into force only while it still is
//! what would be rendered.

use std::time::Duration;

use super::{ChangeError, Controller};
use crate::balancer::{Balancer, Foreign, Progress, Rendered};
use crate::store::{Holder, Staged, State};

impl<B: Balancer> Controller<B> {
    /// The configuration for the current position, rendered and not installed (`render --to`, `diff`). With the
    /// generation in force, so that what is the same renders the same.
    pub async fn render(&mut self) -> Result<Rendered, ChangeError> {
        let loaded = self.load().await?;
        Ok(self
            .balancer
            .render(&self.table(&self.complete(&loaded.state)))?)
    }

    /// The next generation, rendered and kept under `state.dir/staged` for `reload`. Returns it and its folder.
    pub async fn stage(
        &mut self,
        message: Option<String>,
        lock_wait: Duration,
    ) -> Result<(Rendered, std::path::PathBuf), ChangeError> {
        let holder = Holder::current(&format!("{} render", self.command), message);
        let mut lock = self.store.lock(holder, lock_wait).await?;
        let loaded = self
            .settle(&mut lock, Foreign::Refuse, Progress::silent())
            .await?;
        let mut target = self.complete(&loaded.state);
        target.generation = loaded.used.next();
        let rendered = self.balancer.render(&self.table(&target))?;
        let staged = Staged {
            generation: rendered.generation,
            files: rendered
                .files
                .iter()
                .map(|file| (file.path.clone(), file.text.clone()))
                .collect(),
            positions: self
                .config
                .services
                .keys()
                .filter_map(|name| {
                    target
                        .services
                        .get(name)
                        .map(|state| (name.clone(), state.position))
                })
                .collect(),
        };
        lock.save_staged(&staged)?;
        Ok((rendered, self.store.dir().join("staged")))
    }

    /// What is staged, if it is what would be rendered now; `None` if just that is in force already, since a daemon took the
    /// same edit first.
    pub(super) async fn staged(
        &self,
        state: &State,
        target: &State,
    ) -> Result<Option<Staged>, ChangeError> {
        let staged = self
            .store
            .load_staged()?
            .ok_or(ChangeError::NothingStaged)?;
        let outdated = |why: &str| {
            Err(ChangeError::StagedOutdated {
                staged: staged.generation,
                why: why.to_owned(),
            })
        };
        let mut then = target.clone();
        then.generation = staged.generation;
        let now = self.balancer.render(&self.table(&then))?;
        let same = now.files.len() == staged.files.len()
            && now
                .files
                .iter()
                .zip(&staged.files)
                .all(|(now, (path, text))| now.path == *path && now.text == *text);
        if staged.generation > state.generation {
            return if same {
                Ok(Some(staged))
            } else {
                outdated("configuration, template or position have changed since it was staged")
            };
        }
        if same && self.in_force(state).await {
            Ok(None)
        } else {
            outdated(&format!("generation {} is in force", state.generation))
        }
    }
}
