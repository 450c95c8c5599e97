//! The URL of a database, with the parts that the driver does not know taken out.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use url::{Position, Url};

use crate::mask::mask_password;
use crate::postgres_parameters::{Parameters, SslMode};
use crate::postgres_servers::{Server, Written};

const EXAMPLE: &str = "a URL such as postgres://user:password@host:5432/database";

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// The URL of a PostgreSQL database. It prints without its password.
///
/// Two are equal if they would connect alike: the same text, and the same content of the files that it names, as it was
/// when the URL was read. So a reload notices a renewed certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    connection: String,
    servers: Vec<PostgresServer>,
    shuffled: bool,
    ssl_mode: SslMode,
    root_cert: Option<PathBuf>,
    client_cert: Option<ClientCert>,
    files: u64,
}

/// One of the servers that a URL names.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresServer {
    /// Host and port, for people.
    pub name: String,
    /// The URL for the driver that leads to this server alone: with the password.
    pub url: String,
}

/// What a client shows of itself in the TLS handshake: PEM files, named as in libpq.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    /// `sslcert`: the certificate, and those between it and the authority.
    pub cert: PathBuf,
    /// `sslkey`: its private key, not encrypted.
    pub key: PathBuf,
}

impl std::str::FromStr for PostgresUrl {
    type Err = String;

    /// Reads a URL; relative paths of certificates start at the working directory.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, Path::new(""))
    }
}

impl PostgresUrl {
    /// Reads a URL; relative paths of certificates start at `folder`.
    ///
    /// # Errors
    /// What is expected instead. The text holds nothing of the URL but its parameters' names.
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.ok_or(EXAMPLE)?;
        // What the URL standard can't hold, several hosts, is taken out and a single one put in its place.
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let at = if authority.contains('@') { "@" } else { "" };
        let scheme = &text[..text.len() - rest.len()];
        let url = Url::parse(&format!("{scheme}{login}{at}host{tail}")).map_err(|error| {
            format!("{EXAMPLE} ({error}; special characters as %40 and the like)")
        })?;
        // A stray `@` means that the password ended the host part too early: what follows may be a piece of it.
        if [url.path(), url.query().unwrap_or_default()]
            .iter()
            .any(|part| part.contains('@'))
            || url.fragment().is_some()
        {
            return Err(format!(
                "{EXAMPLE} (special characters of the password as %40 and the like)"
            ));
        }
        let read = Parameters::read(url.query().unwrap_or_default(), folder)?;
        let servers = Written {
            authority: hosts,
            ..read.hosts
        };
        let servers = servers
            .servers()
            .map_err(|expected| format!("{EXAMPLE} ({expected})"))?;
        if servers.is_empty() {
            return Err(format!("{EXAMPLE} (with a host)"));
        }
        let write = |servers: &[Server]| {
            let hosts: Vec<_> = servers.iter().map(Server::authority).collect();
            let addresses: Vec<_> = servers
                .iter()
                .filter_map(|server| server.address.map(|address| address.to_string()))
                .collect();
            let mut query = read.kept.clone();
            if !addresses.is_empty() {
                query.push(format!("hostaddr={}", addresses.join(",")));
            }
            let question = if query.is_empty() { "" } else { "?" };
            format!(
                "{}{}{}{question}{}",
                &url[..Position::BeforeHost],
                hosts.join(","),
                url.path(),
                query.join("&")
            )
        };
        let client_cert = match (read.cert, read.key) {
            (Some(cert), Some(key)) => Some(ClientCert { cert, key }),
            (None, None) => None,
            (Some(_), None) => return Err("sslkey beside sslcert".to_owned()),
            (None, Some(_)) => return Err("sslcert beside sslkey".to_owned()),
        };
        let mut named = PostgresUrl {
            connection: write(&servers),
            servers: servers
                .iter()
                .map(|server| PostgresServer {
                    name: server.name(),
                    url: write(std::slice::from_ref(server)),
                })
                .collect(),
            shuffled: read.shuffled,
            ssl_mode: read.ssl_mode,
            root_cert: read.root_cert,
            client_cert,
            files: 0,
        };
        named.files = contents(named.files().map(|(_, path)| path));
        Ok(named)
    }

    /// The URL for the driver, with all servers and the password, and without what the driver leaves to TLS.
    pub fn connection_url(&self) -> &str {
        &self.connection
    }

    /// The servers, in the order in which they are to be tried.
    pub fn servers(&self) -> &[PostgresServer] {
        &self.servers
    }

    /// Whether the order of the servers is to be drawn anew each time (`load_balance_hosts=random`).
    pub fn is_shuffled(&self) -> bool {
        self.shuffled
    }

    /// How far TLS goes.
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    /// The authorities to trust; those of the system if `None`.
    pub fn root_cert(&self) -> Option<&Path> {
        self.root_cert.as_deref()
    }

    /// What to show to a server that asks who is there.
    pub fn client_cert(&self) -> Option<&ClientCert> {
        self.client_cert.as_ref()
    }

    /// The files that it names, with the parameters that name them.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let client = self.client_cert.as_ref();
        [
            ("sslrootcert", self.root_cert.as_deref()),
            ("sslcert", client.map(|client| client.cert.as_path())),
            ("sslkey", client.map(|client| client.key.as_path())),
        ]
        .into_iter()
        .filter_map(|(name, path)| Some((name, path?)))
    }
}

/// A fingerprint of what the files hold now; a file that can't be read counts as such.
fn contents<'a>(paths: impl Iterator<Item = &'a Path>) -> u64 {
    let mut hasher = siphasher::sip::SipHasher24::new();
    for path in paths {
        std::fs::read(path).ok().hash(&mut hasher);
    }
    hasher.finish()
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_password(&self.connection))
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresUrl")
            .field("url", &format_args!("{self}"))
            .field("ssl_mode", &self.ssl_mode)
            .field("root_cert", &self.root_cert)
            .field("client_cert", &self.client_cert)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PostgresUrl, String> {
        PostgresUrl::parse(text, Path::new("/etc/sitewatch"))
    }

    #[test]
    fn takes_the_tls_parameters_out() {
        let url = parse("postgres://u:p%2Fw@h:1/db?sslmode=verify-full&application_name=a%20b&sslrootcert=ca%2B1+2.pem")
            .unwrap();
        assert_eq!(
            url.connection_url(),
            "postgres://u:p%2Fw@h:1/db?application_name=a%20b"
        );
        assert_eq!(url.ssl_mode(), SslMode::VerifyFull);
        assert_eq!(
            url.root_cert(),
            Some(Path::new("/etc/sitewatch/ca+1+2.pem"))
        );
        assert_eq!(
            url.to_string(),
            "postgres://u:***@h:1/db?application_name=a%20b"
        );
    }

    #[test]
    fn prefers_tls_unless_told_otherwise() {
        let url = parse("postgresql://h/db").unwrap();
        assert_eq!(
            (url.connection_url(), url.ssl_mode(), url.root_cert()),
            ("postgresql://h/db", SslMode::Prefer, None)
        );
    }

    #[test]
    fn encodes_what_a_person_forgot_to_encode() {
        assert_eq!(
            parse("postgres://u:p@w@h/db").unwrap().connection_url(),
            "postgres://u:p%40w@h/db"
        );
    }

    #[test]
    fn accepts_a_socket() {
        let url = parse("postgres:///db?host=/var/run/postgresql").unwrap();
        assert_eq!(url.servers()[0].name, "/var/run/postgresql:5432");
        assert_eq!(
            url.connection_url(),
            "postgres://%2Fvar%2Frun%2Fpostgresql/db"
        );
        assert!(parse("postgres:///db").is_err());
    }

    #[test]
    fn several_hosts_become_several_urls_and_print_without_the_password() {
        let url = parse(
            "postgres://u:p@w@db1:5433,[::1],db2/db?target_session_attrs=primary&load_balance_hosts=random&connect_timeout=3",
        )
        .unwrap();
        let query = "target_session_attrs=read-write&connect_timeout=3";
        let urls: Vec<_> = url.servers().iter().map(|server| &server.url).collect();
        assert_eq!(
            urls,
            ["db1:5433", "[::1]", "db2"]
                .map(|host| format!("postgres://u:p%40w@{host}/db?{query}"))
                .iter()
                .collect::<Vec<_>>()
        );
        assert!(url.is_shuffled());
        assert_eq!(
            url.to_string(),
            format!("postgres://u:***@db1:5433,[::1],db2/db?{query}")
        );
        assert!(!format!("{url:?}").contains("p%40w"), "{url:?}");
        let keyed = parse("postgres://u@/db?host=db1,db2&port=1,2&hostaddr=10.0.0.1,10.0.0.2");
        assert_eq!(
            keyed.unwrap().servers()[1].url,
            "postgres://u@db2:2/db?hostaddr=10.0.0.2"
        );
    }

    #[test]
    fn a_renewed_certificate_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let read =
            || PostgresUrl::parse("postgres://h/db?sslrootcert=ca.pem", folder.path()).unwrap();
        let absent = read();
        std::fs::write(folder.path().join("ca.pem"), "one").unwrap();
        let (first, again) = (read(), read());
        std::fs::write(folder.path().join("ca.pem"), "two").unwrap();
        assert!(first == again && first != read() && first != absent);
    }
}
