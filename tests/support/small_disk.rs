//! A small file system in memory, to be filled without harm to anything else.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Mounts one of `size` (as `32m`) on `folder`, which is made. `false` where that is not allowed.
pub(crate) fn mount(folder: &Path, size: &str) -> std::io::Result<bool> {
    fs::create_dir_all(folder)?;
    let arguments = ["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"];
    Ok(run("mount", &arguments, folder))
}

/// Takes it away, also while somebody still uses it.
pub(crate) fn unmount(folder: &Path) -> bool {
    run("umount", &["--lazy"], folder)
}

/// Runs `program` with `folder` as its last argument. Whether it has succeeded.
pub(crate) fn run(program: &str, arguments: &[&str], folder: &Path) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .arg(folder)
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn ballast(folder: &Path) -> PathBuf {
    folder.join("ballast")
}

/// Fills it to the last byte.
pub(crate) fn fill(folder: &Path) -> std::io::Result<()> {
    let mut ballast = fs::File::create(ballast(folder))?;
    for size in [1 << 20, 4096, 1] {
        let piece = vec![0; size];
        // Ends with "no space left on device", which is what is wanted.
        while ballast.write_all(&piece).is_ok() {}
    }
    Ok(())
}

/// Gives the room back.
pub(crate) fn free(folder: &Path) -> std::io::Result<()> {
    fs::remove_file(ballast(folder))
}
