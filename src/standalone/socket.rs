//! The socket of the private PostgreSQL: its address, and whether a server answers there.

use std::{io, os::unix::ffi::OsStrExt as _, path::Path, time::Duration};

use sitewatch_config::PostgresUrl;
use tokio::time::{sleep, timeout};

use crate::exit::Failure;

/// The longest path of a socket, and what PostgreSQL adds to that of the folder.
const LONGEST_SOCKET: usize = 107;
const SOCKET: &str = ".s.PGSQL.5432";
/// A server that works says within this time that it is there, or that it is still starting.
const ANSWER: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_millis(50);

/// The URL of the server whose data is in `cluster`.
///
/// # Errors
/// If the path is too long for a socket.
pub(super) fn url(cluster: &Path) -> Result<PostgresUrl, Failure> {
    let bytes = cluster.as_os_str().as_bytes();
    let length = bytes.len() + 1 + SOCKET.len();
    if length > LONGEST_SOCKET {
        return Err(Failure::config(format!(
            "the path {} is {} bytes too long for PostgreSQL's socket: set node.data_dir to a shorter one",
            cluster.display(),
            length - LONGEST_SOCKET
        )));
    }
    let host = percent_encoding::percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC);
    format!("postgres://sitewatch@{host}/postgres?sslmode=disable")
        .parse()
        .map_err(|error: String| Failure::config(format!("{}: {error}", cluster.display())))
}

/// Returns whether a server answers there, now or within this time.
pub(super) async fn answers(url: &PostgresUrl, patience: Duration) -> bool {
    let answer = async {
        while connect(url).await.is_err() {
            sleep(BETWEEN).await;
        }
    };
    timeout(patience, answer).await.is_ok()
}

/// Connects to the server, which may have been stopped (SIGSTOP) or hang: then its socket takes connections, and nobody answers.
///
/// # Errors
/// Those of the server or the system; if there is no answer in time.
pub(super) async fn connect(url: &PostgresUrl) -> io::Result<()> {
    let connection = tokio_postgres::connect(url.connection_url(), tokio_postgres::NoTls);
    let Ok(connected) = timeout(ANSWER, connection).await else {
        let why = format!("no answer within {} s", ANSWER.as_secs());
        return Err(io::Error::new(io::ErrorKind::TimedOut, why));
    };
    // The connection ends with its value.
    connected.map(drop).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_accepts_and_never_answers_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let _silent = std::os::unix::net::UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let url = url(folder.path()).unwrap();
        let bounded = timeout(Duration::from_secs(60), connect(&url)).await;
        let error = bounded.expect("it waits without end").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        let answered = answers(&url, Duration::from_secs(15));
        let bounded = timeout(Duration::from_secs(16), answered).await;
        assert!(!bounded.expect("it waits without end"));
    }

    #[test]
    fn the_socket_of_any_folder_can_be_named_unless_its_path_is_too_long() {
        let folder = "/srv/töwer, 1%/a@b:c?d#e";
        let named = url(Path::new(folder)).unwrap();
        assert_eq!(named.servers()[0].name, format!("{folder}:5432"));
        let driver: tokio_postgres::Config = named.connection_url().parse().unwrap();
        let host = tokio_postgres::config::Host::Unix(folder.into());
        assert_eq!(driver.get_hosts(), [host]);
        let longest = format!("/{}", "x".repeat(LONGEST_SOCKET - 2 - SOCKET.len()));
        assert!(url(Path::new(&longest)).is_ok());
        let refused = url(Path::new(&format!("{longest}yy"))).unwrap_err();
        assert!(
            refused.to_string().contains("is 2 bytes too long"),
            "{refused}"
        );
    }
}
