//! Files and folders for their owner only: what sites answered, and secrets, is for nobody else on the machine.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// The permission bits of group and others.
const OF_OTHERS: u32 = 0o077;

/// Returns options for opening a file; if that creates the file, its mode is 0600, whatever the umask is.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Creates a folder with mode 0700, whatever the umask is, and its missing parents with 0755 at most: with more rights another user
/// could replace the folder.
///
/// # Errors
/// Those of the system.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    if let Some(above) = folder
        .parent()
        .filter(|above| !above.as_os_str().is_empty())
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(above)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
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
