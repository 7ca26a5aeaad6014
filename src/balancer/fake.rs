//! A balancer without traffic, for the tests of what stands above the balancers. It does as it is told, and by default it
//! proves what it was given.
//!
//! It lives here because a proof can be made here only. It must never do what no real balancer could: what it says it
//! serves is what it was last made to serve.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{
    Applied, ApplyError, Balancer, Change, Disk, Drained, Foreign, FrontDoor, Observed, Presence,
    RenderError, Rendered, RenderedFile, Served, ServerHealthUse, Step, Tended,
};
use crate::domain::{Color, Generation, RoutingTable, ServiceName, Split};

/// A proof of `generation`, for tests of what is done with one.
pub(crate) fn proved(generation: Generation) -> Applied {
    Applied::new(
        generation,
        vec![format!("the fake serves generation {generation}")],
        Vec::new(),
    )
}

/// How one apply ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Served and proved.
    Proved,
    /// The check refuses it.
    Refused,
    /// The balancer is not running.
    Unreachable,
    /// Something fails before the balancer is told.
    Unchanged,
    /// Told, not taken, and brought back.
    Restored,
    /// Told and taken, no proof, and not brought back: the new table serves.
    NotRestored,
    /// The new table serves, and the answer never comes.
    Hang,
}

/// One apply as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) generation: Generation,
    pub(crate) splits: BTreeMap<ServiceName, Split>,
    pub(crate) previous: Option<Generation>,
    pub(crate) front_door: FrontDoor,
}

#[derive(Debug)]
struct World {
    folder: tempfile::TempDir,
    endings: VecDeque<Ending>,
    applies: Vec<Seen>,
    served: Served,
    disk: Disk,
    busy: BTreeSet<Color>,
    /// What the last apply replaced, and the generation that replaced it.
    kept: Option<(Generation, Kept)>,
    /// Whether reverts work.
    reverts: bool,
    presence: Presence,
    /// What comes of the next look at what a stranger did; `None`: nobody was at it.
    tended: Option<Tended>,
}

/// File, disk and served as they were.
#[derive(Debug)]
struct Kept {
    bytes: Option<Vec<u8>>,
    served: Served,
    disk: Disk,
}

impl Kept {
    fn generation(&self) -> Generation {
        match self.served {
            Served::Generation { generation, .. } => generation,
            Served::Foreign { .. } | Served::Unreachable { .. } => Generation::default(),
        }
    }
}

impl World {
    fn file(&self) -> PathBuf {
        self.folder.path().join("turnout.conf")
    }
}

/// The fake. Clones are one balancer, so a test keeps one and gives another away.
#[derive(Debug, Clone)]
pub(crate) struct Fake(Arc<Mutex<World>>);

impl Fake {
    /// One that was never applied to, and proves everything.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(World {
            folder: tempfile::tempdir().unwrap(),
            endings: VecDeque::new(),
            applies: Vec::new(),
            served: Served::Foreign {
                reason: "nothing was ever applied".to_owned(),
            },
            disk: Disk::Absent,
            busy: BTreeSet::new(),
            kept: None,
            reverts: true,
            presence: Presence::Here,
            tended: None,
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next applies end like this, in this order; those after them are proved.
    pub(crate) fn then(&self, endings: impl IntoIterator<Item = Ending>) -> &Self {
        self.world().endings.extend(endings);
        self
    }

    /// Every apply so far.
    pub(crate) fn applies(&self) -> Vec<Seen> {
        self.world().applies.clone()
    }

    /// From now on this is served, whatever was applied: a stranger's reload, or a balancer that died.
    pub(crate) fn serve(&self, served: Served) {
        self.world().served = served;
    }

    /// From now on it is there, or gone.
    pub(crate) fn appear(&self, presence: Presence) {
        self.world().presence = presence;
    }

    /// Somebody else was at it, and the next look comes to this.
    pub(crate) fn wear(&self, tended: Tended) {
        self.world().tended = Some(tended);
    }

    /// From now on this color has something in flight.
    pub(crate) fn keep_busy(&self, color: Color) {
        self.world().busy.insert(color);
    }

    /// What was in flight on this color is done.
    pub(crate) fn finish(&self, color: Color) {
        self.world().busy.remove(&color);
    }

    /// From now on this stands on disk.
    pub(crate) fn put_on_disk(&self, disk: Disk) {
        self.world().disk = disk;
    }

    /// From now on nothing can be reverted: the next process after a reboot, say.
    pub(crate) fn forget(&self) {
        self.world().kept = None;
    }

    /// From now on a revert fails.
    pub(crate) fn refuse_to_revert(&self) {
        self.world().reverts = false;
    }

    /// The bytes of its one file.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        std::fs::read(self.world().file()).ok()
    }

    /// What was rendered is on disk and served.
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's file need not survive a crash"
    )]
    fn take(&self, change: &Change<'_>) {
        let table = change.desired;
        let splits = splits(table);
        let mut world = self.world();
        let before = Kept {
            bytes: std::fs::read(world.file()).ok(),
            served: world.served.clone(),
            disk: world.disk.clone(),
        };
        if before.generation() != table.generation {
            world.kept = Some((table.generation, before));
        }
        for file in &change.rendered.files {
            std::fs::write(&file.path, &file.text).unwrap();
        }
        world.served = Served::Generation {
            generation: table.generation,
            splits: splits.clone(),
        };
        world.disk = Disk::Intact {
            generation: table.generation,
            splits,
        };
    }

    fn ending(&self, change: &Change<'_>) -> Ending {
        let mut world = self.world();
        world.applies.push(Seen {
            generation: change.desired.generation,
            splits: splits(change.desired),
            previous: change.previous.map(|table| table.generation),
            front_door: change.front_door,
        });
        world.endings.pop_front().unwrap_or(Ending::Proved)
    }
}

fn splits(table: &RoutingTable) -> BTreeMap<ServiceName, Split> {
    let routes = table.routes.iter();
    routes
        .map(|(name, route)| (name.clone(), route.split()))
        .collect()
}

impl Balancer for Fake {
    fn kind(&self) -> &'static str {
        "fake"
    }

    fn render(&self, table: &RoutingTable) -> Result<Rendered, RenderError> {
        let lines = table.routes.iter().map(|(name, route)| {
            let servers = |color| route.service.servers(color);
            format!(
                "{name}: {} blue={:?} green={:?}\n",
                route.split(),
                servers(Color::Blue),
                servers(Color::Green)
            )
        });
        Ok(Rendered {
            generation: table.generation,
            files: vec![RenderedFile {
                path: self.world().file(),
                text: lines.collect(),
            }],
        })
    }

    fn server_health(&self) -> ServerHealthUse {
        ServerHealthUse::Own
    }

    async fn check(&self, _: &RoutingTable, _: &Rendered) -> Result<Vec<String>, ApplyError> {
        Ok(Vec::new())
    }

    async fn drained(&self, _: &ServiceName, color: Color, within: Duration) -> Drained {
        let idle = async {
            while self.world().busy.contains(&color) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        match tokio::time::timeout(within, idle).await {
            Ok(()) => Drained::Done,
            Err(_elapsed) => Drained::Busy {
                what: "1 request".to_owned(),
            },
        }
    }

    async fn apply(&self, change: Change<'_>) -> Result<Applied, ApplyError> {
        let generation = change.desired.generation;
        let message = format!("the fake was told to fail at generation {generation}");
        match self.ending(&change) {
            Ending::Proved => {
                self.take(&change);
                change.progress.tell(Step::Prove, "the fake");
                Ok(proved(generation))
            }
            Ending::Refused => Err(ApplyError::Refused {
                balancer: "fake",
                message,
            }),
            Ending::Unreachable => Err(ApplyError::Unreachable { message }),
            Ending::Unchanged => Err(ApplyError::Unchanged {
                message,
                source: None,
            }),
            Ending::Restored => Err(ApplyError::Restored {
                message,
                serves: change
                    .previous
                    .map_or(Generation::default(), |table| table.generation),
            }),
            Ending::NotRestored => {
                self.take(&change);
                Err(ApplyError::NotRestored {
                    message,
                    undo: "the fake was told not to go back".to_owned(),
                    advice: "Tell it otherwise".to_owned(),
                })
            }
            Ending::Hang => {
                self.take(&change);
                std::future::pending().await
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a test's file need not survive a crash"
    )]
    async fn revert(&self, to: Generation, _: Foreign) -> Result<Option<Applied>, ApplyError> {
        let mut world = self.world();
        if !world.reverts {
            return Err(ApplyError::NotRestored {
                message: format!("generation {to} was to be brought back"),
                undo: "the fake was told not to go back".to_owned(),
                advice: "Tell it otherwise".to_owned(),
            });
        }
        let is = |served: &Served| matches!(served, Served::Generation { generation, .. } if *generation == to);
        let file = world.file();
        match world.kept.take() {
            Some((by, kept)) if by != to && kept.generation() == to => {
                match &kept.bytes {
                    Some(bytes) => std::fs::write(&file, bytes).unwrap(),
                    None => std::fs::remove_file(&file).unwrap(),
                }
                world.served = kept.served;
                world.disk = kept.disk;
                Ok(Some(proved(to)))
            }
            kept => {
                world.kept = kept;
                Ok(is(&world.served).then(|| proved(to)))
            }
        }
    }

    async fn observe(&self) -> Observed {
        let world = self.world();
        Observed {
            disk: Some(world.disk.clone()),
            served: world.served.clone(),
        }
    }

    async fn is_new(&self) -> bool {
        self.world().tended.is_some()
    }

    async fn tend(&self, _: &RoutingTable) -> Tended {
        self.world().tended.take().unwrap_or(Tended::Nothing)
    }

    async fn presence(&self) -> Presence {
        self.world().presence.clone()
    }
}
