//! A small disk for a producer's spool, which can be filled.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{process, small_disk};

/// Room for some minutes of results without Kafka.
const SIZE: &str = "32m";

/// A file system in memory, where mounting is allowed.
pub(crate) struct Disk {
    folder: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Mounts a small file system on `folder`; without the right to do so it is a folder like any other.
    pub(crate) fn new(folder: &Path) -> std::io::Result<Self> {
        let mounted = small_disk::mount(folder, SIZE)?;
        if mounted {
            process::mounted(folder);
        }
        Ok(Self {
            folder: folder.to_owned(),
            mounted,
        })
    }

    /// Whether it can be filled without harm to anything else.
    pub(crate) fn is_small(&self) -> bool {
        self.mounted
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) -> std::io::Result<()> {
        small_disk::fill(&self.folder)
    }

    /// Gives the room back.
    pub(crate) fn free(&self) {
        // It may not be taken.
        let _ = small_disk::free(&self.folder);
    }
}

/// Takes away what a run that was killed has left mounted below `folder`.
pub(crate) fn unmount_stale(folder: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for place in places
        .map(Path::new)
        .filter(|place| place.starts_with(folder))
    {
        small_disk::unmount(place);
    }
}
