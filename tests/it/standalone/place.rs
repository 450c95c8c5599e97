//! Where the database is if this process is root and PostgreSQL's user can't enter the data directory.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use super::{NOBODY, Standalone, has_root};
use crate::support::Web;

/// A folder as root's home is.
fn closed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

/// A folder outside of the data directory, removed at the end.
struct Outside(PathBuf);

impl Outside {
    /// Where the version before this one kept the data of a folder as root's home.
    fn of(folder: &Path) -> Self {
        let name = folder.join("sitewatch-data").display().to_string();
        Self(PathBuf::from(format!(
            "/var/tmp/sitewatch{}",
            name.replace('/', "-")
        )))
    }

    fn make(&self, owner: u32) {
        fs::create_dir(&self.0).unwrap();
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700)).unwrap();
        let password = self.0.join("password");
        fs::write(&password, "known").unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
        for path in [&self.0, &password] {
            chown(path, Some(owner), None).unwrap();
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Most tests leave none.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The folder of the data that a node has made elsewhere; removed with it.
async fn elsewhere(node: &mut Standalone) -> Outside {
    let home = node.cluster().await.parent().unwrap().to_owned();
    assert!(
        home.parent() == Some(Path::new("/var/lib")),
        "{}",
        home.display()
    );
    Outside(home)
}

#[actix_rt::test]
async fn a_folder_that_another_user_has_planted_is_not_used() {
    if !has_root() {
        return;
    }
    let (folder, web) = (closed(), Web::start());
    let planted = Outside::of(folder.path());
    planted.make(NOBODY - 1);
    let mut node = Standalone::start(folder.path(), &web, false, &[]);
    let rows = node.rows(2).await;
    let home = elsewhere(&mut node).await;
    let found = fs::metadata(&home.0).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o711));
    assert_eq!(fs::read_dir(&planted.0).unwrap().count(), 1, "it was used");
    assert!(
        node.log().contains("another user owns it"),
        "{}",
        node.log()
    );
    node.stop();
    // It is found again.
    let mut again = Standalone::start(folder.path(), &web, false, &[]);
    again.rows(rows + 2).await;
    again.stop();
}

#[actix_rt::test]
async fn what_the_version_before_made_is_kept() {
    if !has_root() {
        return;
    }
    let (folder, web) = (closed(), Web::start());
    let mut node = Standalone::start(folder.path(), &web, false, &[]);
    let rows = node.rows(2).await;
    let home = elsewhere(&mut node).await;
    node.stop();
    let owner = fs::metadata(home.0.join("postgres")).unwrap().uid();
    let earlier = Outside::of(folder.path());
    earlier.make(owner);
    let moved = std::process::Command::new("mv")
        .arg(home.0.join("postgres"))
        .arg(&earlier.0)
        .status();
    assert!(moved.unwrap().success());
    fs::remove_file(folder.path().join("sitewatch-data/postgres-folder")).unwrap();
    let mut upgraded = Standalone::start(folder.path(), &web, false, &[]);
    upgraded.rows(rows + 2).await;
    assert_eq!(upgraded.cluster().await, earlier.0.join("postgres"));
    assert_eq!(fs::metadata(&earlier.0).unwrap().uid(), 0);
    upgraded.stop();
}

#[actix_rt::test]
async fn a_folder_that_the_version_before_gave_to_the_servers_user_is_root_s_again() {
    if !has_root() {
        return;
    }
    let (folder, web) = (super::folder(), Web::start());
    let mut node = Standalone::start(folder.path(), &web, false, &[]);
    let rows = node.rows(2).await;
    node.stop();
    let data = folder.path().join("sitewatch-data");
    let owner = fs::metadata(data.join("postgres")).unwrap().uid();
    // It logged in by a password, which it kept there.
    fs::write(data.join("password"), "secret").unwrap();
    for path in [data.join("password"), data.clone()] {
        chown(&path, Some(owner), None).unwrap();
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    let mut upgraded = Standalone::start(folder.path(), &web, false, &[]);
    upgraded.rows(rows + 2).await;
    let found = fs::metadata(&data).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o711));
    upgraded.stop();
}
