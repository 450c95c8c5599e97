//! A small disk for a producer's spool, which can be filled.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::process;

/// Room for some minutes of results without Kafka.
const SIZE: &str = "size=32m";

/// A file system in memory, where mounting is allowed.
pub(crate) struct Disk {
    folder: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Mounts a small file system on `folder`; without the right to do so it is a folder like any other.
    pub(crate) fn new(folder: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SIZE, "tmpfs"])
            .arg(folder)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
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

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) -> std::io::Result<()> {
        let mut ballast = fs::File::create(self.ballast())?;
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0; size];
            // Ends with "no space left on device", which is what is wanted.
            while ballast.write_all(&piece).is_ok() {}
        }
        Ok(())
    }

    /// Gives the room back.
    pub(crate) fn free(&self) {
        // It may not be there.
        let _ = fs::remove_file(self.ballast());
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
        process::unmount(place);
    }
}
