//! One process has the data directory at a time, and only where no other user can interfere.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
};

use super::{NOBODY, Standalone, folder, has_root};
use crate::support::{Web, signals};

#[actix_rt::test]
async fn a_second_one_in_the_same_folder_ends_and_leaves_the_first_alone() {
    let (folder, web) = (folder(), Web::start());
    let mut first = Standalone::start(folder.path(), &web, false, &[]);
    let rows = first.rows(2).await;
    // Another way to the same folder.
    let link = folder.path().join("link");
    symlink(folder.path().join("sitewatch-data"), &link).unwrap();
    let other = [("SITEWATCH__NODE__DATA_DIR", link.to_str().unwrap())];
    for environment in [&[][..], &other[..]] {
        let mut second = Standalone::start(folder.path(), &web, false, environment);
        assert_eq!(second.ends().await, Some(69), "{}", second.log());
        let said = format!(
            "is in use by process {} (--role standalone): end that one first (kill {0}), or give this one a folder of its own \
             (node.data_dir)",
            first.child.id()
        );
        assert!(second.log().contains(&said), "{}", second.log());
    }
    first.rows(rows + 2).await;
    assert!(!first.log().contains("WARN connection"), "{}", first.log());
    first.stop();
}

#[actix_rt::test]
async fn a_removed_lock_file_does_not_cost_the_first_one_its_database() {
    let (folder, web) = (folder(), Web::start());
    let mut first = Standalone::start(folder.path(), &web, false, &[]);
    let rows = first.rows(2).await;
    fs::remove_file(folder.path().join("sitewatch-data/lock")).unwrap();
    let mut second = Standalone::start(folder.path(), &web, false, &[]);
    assert_eq!(second.ends().await, Some(69), "{}", second.log());
    let said = format!("process {} uses the database in ", first.child.id());
    assert!(second.log().contains(&said), "{}", second.log());
    first.rows(rows + 2).await;
    first.stop();
}

async fn refused(folder: &Path, ordinary: bool, code: i32, said: &[&str]) {
    let mut node = Standalone::start(folder, &Web::start(), ordinary, &[]);
    assert_eq!(node.ends().await, Some(code), "{}", node.log());
    for said in said {
        assert!(node.log().contains(said), "{said}\n{}", node.log());
    }
}

#[actix_rt::test]
async fn a_folder_that_can_not_be_written_is_named() {
    let folder = folder();
    let data = folder.path().join("sitewatch-data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o555)).unwrap();
    let path = data.join("lock").display().to_string();
    refused(
        folder.path(),
        true,
        74,
        &[&path, "Permission denied", "set node.data_dir"],
    )
    .await;
}

#[actix_rt::test]
async fn what_is_not_a_folder_is_named() {
    for is_link in [false, true] {
        let folder = folder();
        let data = folder.path().join("sitewatch-data");
        if is_link {
            symlink("nowhere", &data).unwrap();
        } else {
            fs::write(&data, "").unwrap();
        }
        let said = format!("{} is not a folder: remove it", data.display());
        refused(folder.path(), false, 74, &[&said, "set node.data_dir"]).await;
    }
}

#[actix_rt::test]
async fn a_folder_that_others_can_write_is_refused() {
    let folder = folder();
    let data = folder.path().join("sitewatch-data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
    refused(
        folder.path(),
        false,
        78,
        &["sitewatch-data has mode 777", "can change it", "chmod 755"],
    )
    .await;
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
}

#[actix_rt::test]
async fn a_folder_that_a_group_of_many_can_write_is_refused() {
    if !has_root() {
        return;
    }
    for mode in [0o775, 0o1775] {
        let folder = folder();
        let data = folder.path().join("sitewatch-data");
        fs::create_dir(&data).unwrap();
        chown(&data, None, Some(NOBODY - 1)).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(mode)).unwrap();
        let said = format!("sitewatch-data has mode {mode:o}");
        refused(folder.path(), false, 78, &[&said, "chmod 755"]).await;
    }
}

#[actix_rt::test]
async fn data_that_others_can_only_read_is_refused_as_such() {
    let folder = folder();
    let cluster = folder.path().join("sitewatch-data/postgres");
    fs::create_dir_all(&cluster).unwrap();
    fs::set_permissions(&cluster, fs::Permissions::from_mode(0o750)).unwrap();
    let said = ["has mode 750", "can read what is in it", "chmod 700"];
    refused(folder.path(), false, 78, &said).await;
}

#[actix_rt::test]
async fn folders_above_are_closed_to_writers_whatever_the_umask() {
    let (folder, web) = (folder(), Web::start());
    super::write_settings(folder.path(), &web);
    let log = folder.path().join("log");
    let mut node = std::process::Command::new("sh")
        .args(["-c", "umask 000; exec \"$@\"", "sh"])
        .arg(super::program(folder.path()).get_program())
        .args(["--role", "standalone"])
        .current_dir(folder.path())
        .env_clear()
        .env("SITEWATCH__NODE__DATA_DIR", "above/below/data")
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let said = || fs::read_to_string(&log).unwrap();
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while !said().contains("making a private PostgreSQL") {
        assert!(std::time::Instant::now() < deadline, "{}", said());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    signals::send(node.id(), "TERM").unwrap();
    assert_eq!(node.wait().unwrap().code(), Some(0), "{}", said());
    for path in ["above", "above/below", "above/below/data"] {
        let mode = fs::metadata(folder.path().join(path)).unwrap();
        let mode = mode.permissions().mode();
        assert_eq!(mode & 0o022, 0, "{path}: {mode:o}");
    }
    // Nothing is left of what it had begun.
    let data = fs::read_dir(folder.path().join("above/below/data")).unwrap();
    let names: Vec<_> = data.flatten().map(|entry| entry.file_name()).collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().contains("new-")),
        "{names:?}"
    );
}

#[actix_rt::test]
async fn data_of_another_version_of_postgresql_is_named_with_what_helps() {
    let folder = folder();
    let cluster = folder.path().join("sitewatch-data/postgres");
    fs::create_dir_all(&cluster).unwrap();
    fs::set_permissions(&cluster, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(cluster.join("PG_VERSION"), "13\n").unwrap();
    if super::is_root() {
        chown(&cluster, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let said = [
        "is of PostgreSQL 13; installed: ",
        "install the package postgresql-13, or move the data by pg_upgrade or a dump",
    ];
    refused(folder.path(), false, 69, &said).await;
}

#[actix_rt::test]
async fn a_folder_of_another_user_is_refused() {
    if !has_root() {
        return;
    }
    let folder = folder();
    let data = folder.path().join("sitewatch-data");
    fs::create_dir(&data).unwrap();
    chown(&data, Some(NOBODY - 1), None).unwrap();
    refused(
        folder.path(),
        false,
        78,
        &["sitewatch-data belongs to user 65533", "node.data_dir"],
    )
    .await;
    refused(
        folder.path(),
        true,
        78,
        &["sitewatch-data belongs to user 65533", "runs as user 65534"],
    )
    .await;
}

#[actix_rt::test]
async fn no_symbolic_link_is_written_through() {
    for name in ["lock", "postgres.log", "postgres-hba.conf"] {
        let folder = folder();
        let (data, target) = (
            folder.path().join("sitewatch-data"),
            folder.path().join("target"),
        );
        fs::create_dir(&data).unwrap();
        fs::write(&target, "kept").unwrap();
        symlink(&target, data.join(name)).unwrap();
        refused(folder.path(), false, 74, &[name, "symbolic link"]).await;
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    }
}
