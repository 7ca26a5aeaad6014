//! The way back after a change that nginx did not take: the last good files, and the generation that was served.

use std::time::Duration;

use super::super::install::LastGood;
use super::super::{ApplyError, Change, Step};
use super::Nginx;
use super::apply::{Before, Untold, tell, with_log};
use super::process::Worker;
use super::prove::{self, Unproved};
use crate::domain::Generation;

/// The files go back; nginx was never told.
pub(super) fn undo_untold(last_good: LastGood, error: ApplyError) -> ApplyError {
    match last_good.restore() {
        Ok(()) => {
            settle_undone(last_good);
            error
        }
        Err(undo) => ApplyError::NotRestored {
            message: error.to_string(),
            undo: undo.to_string(),
            advice: format!(
                "nginx was not told. Put the files back: {}",
                last_good.by_hand()
            ),
        },
    }
}

/// What stands on disk is the last good again. That the mark cannot be written only makes the next change look at it again.
pub(super) fn settle_undone(last_good: LastGood) {
    last_good.settle().ok();
}

/// The way back after nginx was told: files, then the generation that is served.
pub(super) async fn restore(
    nginx: &Nginx,
    change: &Change<'_>,
    before: Before,
    last_good: LastGood,
    message: String,
) -> ApplyError {
    let failed = |undo: String| ApplyError::NotRestored {
        message: message.clone(),
        undo,
        advice: format!(
            "By hand: {} && {} -t -c {} && kill -HUP $(cat {}); then look with `turnout verify`",
            last_good.by_hand(),
            nginx.settings.binary,
            nginx.settings.main.display(),
            nginx.settings.pid.display()
        ),
    };
    if let Err(error) = last_good.restore() {
        return failed(format!(
            "the last good files could not be put back: {error}"
        ));
    }
    change
        .progress
        .tell(Step::Restore, "the last good files are back");
    let serves = before.served.unwrap_or_default();
    let now = prove::generation(nginx.settings.prove)
        .await
        .ok()
        .map(|said| said.generation);
    if before.master.as_ref().is_some_and(|master| !master.lives()) {
        return failed("the last good files are back, but nginx does not run any more".to_owned());
    }
    if now != before.served {
        let expected = super::intact_generation(&nginx.settings.config).or(before.served);
        let old = before.workers();
        if let Err(Untold::Gone) = tell(nginx, before.master.as_ref()).await {
            return failed(
                "the last good files are back, but nginx does not run any more".to_owned(),
            );
        }
        let undone = match expected {
            Some(expected) => before
                .wait(nginx, &old)
                .until(expected)
                .await
                .map(|_evidence| ()),
            None => until_foreign(nginx, &before, &old, change.rendered.generation).await,
        };
        match undone {
            Ok(()) => {}
            Err(Unproved::Gone) => {
                return failed(
                    "the last good files are back, but nginx does not run any more".to_owned(),
                );
            }
            Err(Unproved::NotTaken(seen)) => {
                return failed(with_log(seen, before.log.as_ref(), nginx));
            }
        }
    }
    change
        .progress
        .tell(Step::Restore, &format!("generation {serves} serves"));
    settle_undone(last_good);
    ApplyError::Restored { message, serves }
}

/// Nothing of turnout's was served before: waits until `refused` is not any more, and its workers are on their way out.
async fn until_foreign(
    nginx: &Nginx,
    before: &Before,
    old: &[Worker],
    refused: Generation,
) -> Result<(), Unproved> {
    let started = tokio::time::Instant::now();
    loop {
        let said = prove::generation(nginx.settings.prove).await;
        let gone = !said.is_ok_and(|said| said.generation == refused);
        if gone && !old.iter().any(|worker| worker.accepts()) {
            return Ok(());
        }
        if started.elapsed() >= before.within {
            return Err(Unproved::NotTaken(format!(
                "generation {refused} is still served after its files were removed"
            )));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
