//! Files and folders for their owner only: what sites answered, and secrets, is for nobody else on the machine.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;

/// The permission bits of group and others.
const OF_OTHERS: u32 = 0o077;

/// Returns options for opening a file; if that creates the file, its mode is 0600 at most, whatever the umask is. A symbolic link is refused:
/// it could lead out of the folder.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Creates a folder with this mode, whatever the umask is, and its missing parents with 0755 at most: with more rights another user
/// could replace the folder. A folder that is there keeps its mode.
///
/// # Errors
/// Those of the system.
pub fn create_folder(folder: &Path, mode: u32) -> io::Result<()> {
    if let Some(above) = folder
        .parent()
        .filter(|above| !above.as_os_str().is_empty())
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(above)?;
    }
    match DirBuilder::new().mode(mode).create(folder) {
        // The umask may have taken away more than was meant.
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        end => end,
    }
}

/// Removes the rights of group and others on an existing file or folder. Returns whether there were any. Skips symbolic links.
///
/// # Errors
/// Those of the system, as where it belongs to somebody else.
pub fn close_to_others(path: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(path)?;
    let mode = found.permissions().mode();
    if found.is_symlink() || mode & OF_OTHERS == 0 {
        return Ok(false);
    }
    fs::set_permissions(path, Permissions::from_mode(mode & !OF_OTHERS))?;
    Ok(true)
}
