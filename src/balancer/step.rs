//! The steps of an apply, and who is told of each as it is done. Decides nothing.

use serde::Serialize;

/// Who is told of the steps of an apply.
#[derive(Clone, Copy)]
pub struct Progress<'a>(&'a (dyn Fn(Step, &str) + Send + Sync));

impl<'a> Progress<'a> {
    /// Tells `listener` each step with a detail, such as `(Step::Reload, "SIGHUP to the master 4711")`.
    pub fn new(listener: &'a (dyn Fn(Step, &str) + Send + Sync)) -> Self {
        Self(listener)
    }

    /// Tells nobody.
    pub fn silent() -> Self {
        Self(&|_, _| {})
    }

    /// A step was done.
    pub fn tell(&self, step: Step, detail: &str) {
        (self.0)(step, detail);
    }
}

impl std::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

/// The steps of an apply, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The template was rendered.
    Render,
    /// The balancer's own check of what is staged.
    Check,
    /// The live files were replaced.
    Install,
    /// The balancer was told.
    Reload,
    /// It was seen to serve the new generation.
    Prove,
    /// The last good files were put back and proved.
    Restore,
}

impl Step {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Render => "render",
            Self::Check => "check",
            Self::Install => "install",
            Self::Reload => "reload",
            Self::Prove => "prove",
            Self::Restore => "restore",
        }
    }
}
