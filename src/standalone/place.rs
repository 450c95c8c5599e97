//! Where the files of the private PostgreSQL are, and whose they are.
//!
//! They are in `node.data_dir`. As root they are elsewhere if the server's user can't enter that: PostgreSQL refuses to run
//! as root. Nothing is taken over that another user could have put there.

use std::{
    fs,
    hash::{BuildHasher as _, RandomState},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use sitewatch_actors::private;
use slog::{Logger, warn};

use super::{
    folder::{reclaim, refuse_foreign, refuse_rights, unusable},
    users::{self, User},
};
use crate::exit::Failure;

/// The folder of PostgreSQL's own, in `home`.
const CLUSTER: &str = "postgres";
/// The file in `data_dir` that says where `home` is, if it is elsewhere.
const ELSEWHERE: &str = "postgres-folder";
/// Where root has a folder made if the server's user can't enter `data_dir`. Only root can write there, and nobody cleans up.
const STATE: &str = "/var/lib";

/// The places of the server's files.
pub(super) struct Place {
    /// For the server's log, its rules and fetched programs: this process's own.
    pub(super) home: PathBuf,
    /// For the server's data: the server's own.
    pub(super) cluster: PathBuf,
    /// Whom the server runs as; as this process if `None`.
    pub(super) run_as: Option<User>,
}

impl Place {
    /// The place of the data that `data_dir` has; `None` if it has none.
    ///
    /// # Errors
    /// If there is something that another user could have put there.
    pub(super) fn find(data_dir: &Path, log: &Logger) -> Result<Option<Self>, Failure> {
        let home = match remembered(data_dir)? {
            Some(home) => home,
            None if exists(&data_dir.join(CLUSTER))? => data_dir.to_owned(),
            None => match left_by_earlier_version(data_dir, log)? {
                Some(home) => home,
                None => return Ok(None),
            },
        };
        if !exists(&home.join(CLUSTER))? {
            return Ok(None);
        }
        Self::at(home).map(Some)
    }

    /// The place of the data that `data_dir` has, or a new one.
    ///
    /// # Errors
    /// If there is something that another user could have put there, or no place can be made.
    pub(super) fn find_or_make(data_dir: &Path, log: &Logger) -> Result<Self, Failure> {
        if let Some(found) = Self::find(data_dir, log)? {
            return Ok(found);
        }
        let home = match remembered(data_dir)? {
            Some(home) => home,
            None if !users::is_root() || let_through(data_dir)? => data_dir.to_owned(),
            None => elsewhere(data_dir, log)?,
        };
        private::create_folder(&home, 0o711).map_err(|error| unusable(&home, &error))?;
        Self::at(home)
    }

    /// Whether there is data, and not only a folder for it.
    pub(super) fn has_data(&self) -> bool {
        self.cluster.join("PG_VERSION").exists()
    }

    fn at(home: PathBuf) -> Result<Self, Failure> {
        refuse_foreign(&home)?;
        let cluster = home.join(CLUSTER);
        let run_as = if exists(&cluster)? {
            owner(&cluster)?
        } else {
            User::server_users().next().filter(|_| users::is_root())
        };
        Ok(Self {
            home,
            cluster,
            run_as,
        })
    }
}

fn exists(path: &Path) -> Result<bool, Failure> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unusable(path, &error)),
    }
}

/// Whom the server of this data runs as. Refuses data of a user who could be anybody.
fn owner(cluster: &Path) -> Result<Option<User>, Failure> {
    let found = fs::symlink_metadata(cluster).map_err(|error| unusable(cluster, &error))?;
    let shown = cluster.display();
    if !found.is_dir() {
        return Err(Failure::config(format!(
            "{shown} is no folder: move the data of PostgreSQL to its place, or set node.data_dir to where it is"
        )));
    }
    refuse_rights(cluster, &found, 0o077)?;
    let ours = users::ourselves();
    let server_user = User::server_users().find(|user| user.uid == found.uid());
    match server_user {
        _ if ours != 0 && found.uid() == ours => Ok(None),
        Some(user) if ours == 0 => Ok(Some(user)),
        _ => Err(Failure::config(format!(
            "{shown} belongs to user {}, and this process of user {ours} can't run PostgreSQL as that one: run it as the \
             owner, or set node.data_dir",
            found.uid()
        ))),
    }
}

fn remembered(data_dir: &Path) -> Result<Option<PathBuf>, Failure> {
    let file = data_dir.join(ELSEWHERE);
    let opened = private::options().read(true).open(&file);
    let mut text = String::new();
    match opened.and_then(|mut opened| opened.read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&file, &error)),
    }
    let home = PathBuf::from(text.trim_end());
    if home.is_absolute() {
        return Ok(Some(home));
    }
    Err(Failure::config(format!(
        "{}: found {text:?}, expected the absolute path of the folder with PostgreSQL's data",
        file.display()
    )))
}

/// Written before the folder is made, so that no crash leaves data that nothing leads to.
fn remember(data_dir: &Path, home: &Path) -> Result<(), Failure> {
    let file = data_dir.join(ELSEWHERE);
    let written = private::options()
        .write(true)
        .create_new(true)
        .open(&file)
        .and_then(|mut opened| {
            writeln!(opened, "{}", home.display())?;
            opened.sync_all()
        });
    written.map_err(|error| unusable(&file, &error))
}

/// Lets the server's user pass through `data_dir`, if that user can come to it.
fn let_through(data_dir: &Path) -> Result<bool, Failure> {
    let passes = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
    };
    if !data_dir.ancestors().skip(1).all(passes) {
        return Ok(false);
    }
    if !passes(data_dir) {
        let problem = |error| unusable(data_dir, &error);
        let mut permissions = fs::metadata(data_dir).map_err(problem)?.permissions();
        permissions.set_mode(permissions.mode() | 0o001);
        fs::set_permissions(data_dir, permissions).map_err(problem)?;
    }
    Ok(true)
}

fn elsewhere(data_dir: &Path, log: &Logger) -> Result<PathBuf, Failure> {
    let state = Path::new(STATE);
    let found = fs::metadata(state).map_err(|error| unusable(state, &error))?;
    if found.uid() != 0 || found.mode() & 0o022 != 0 {
        return Err(Failure::config(format!(
            "PostgreSQL can't run as root, its own user can't enter {}, and {STATE} is not root's alone: set node.data_dir to a \
             folder that every user can enter, such as /srv/sitewatch",
            data_dir.display()
        )));
    }
    // Only has to be free: nobody but root can take it.
    let name = format!(
        "sitewatch-node-{:016x}",
        RandomState::new().hash_one(data_dir)
    );
    let home = state.join(name);
    warn!(log, "PostgreSQL can't run as root, and its own user can't enter the data directory; keeping the database elsewhere";
        "change_by" => "node.data_dir", "database" => %home.display(), "data_dir" => %data_dir.display());
    remember(data_dir, &home)?;
    Ok(home)
}

/// The folder that an earlier version made under /var/tmp, where every user could have made it first. It is taken over if
/// none but the server's user has ever had it.
fn left_by_earlier_version(data_dir: &Path, log: &Logger) -> Result<Option<PathBuf>, Failure> {
    if !users::is_root() {
        return Ok(None);
    }
    let name = data_dir.display().to_string().replace('/', "-");
    let home = PathBuf::from(format!("/var/tmp/sitewatch{name}"));
    if !exists(&home)? {
        return Ok(None);
    }
    if !is_of_server_user(&home) {
        warn!(log, "not using a folder that looks like an earlier version's: another user owns it, or can write it";
            "path" => %home.display());
        return Ok(None);
    }
    warn!(log, "using the database of an earlier version; programs that clean /var/tmp may damage it"; "path" => %home.display());
    remember(data_dir, &home)?;
    reclaim(&home)?;
    Ok(Some(home))
}

/// Whether a folder, its data and the password beside it are of one server's user. The earlier version gave a folder that it
/// found to the first of them, but left a planted password as it was.
fn is_of_server_user(home: &Path) -> bool {
    let owner = |path: PathBuf| {
        let found = fs::symlink_metadata(path).ok()?;
        (found.mode() & 0o077 == 0 && !found.is_symlink()).then_some(found.uid())
    };
    let owners = [
        owner(home.to_owned()),
        owner(home.join(CLUSTER)),
        owner(home.join("password")),
    ];
    let chosen = User::server_users().next();
    chosen.is_some_and(|user| owners == [Some(user.uid); 3])
}
