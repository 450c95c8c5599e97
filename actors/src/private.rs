//! Files and folders for their owner only: what sites answered, and secrets, is for nobody else on the machine.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// What others may do: none of it.
const OF_OTHERS: u32 = 0o077;

/// For opening a file that, if it is made, is its owner's only, whatever the umask is.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Makes a folder that is its owner's only, whatever the umask is. Of those above it that are not there, others may at most see
/// what is in them: they must not put another folder in its place.
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

/// Takes away what others may do with a file or a folder that is there; whether there was anything. Links are passed over.
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
