//! The URL of a database, with the parts that the driver does not know taken out.

use std::fmt;
use std::path::{Path, PathBuf};

use url::{Url, form_urlencoded};

use crate::mask::mask_password;

const EXAMPLE: &str = "a URL such as postgres://user:password@host:5432/database";

/// What the driver understands besides `sslmode` and `sslrootcert`.
const PARAMETERS: [&str; 18] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// How far TLS goes, as in libpq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server has it.
    #[default]
    Prefer,
    /// TLS, to whoever answers.
    Require,
    /// TLS, to a server whose certificate is signed by a trusted authority.
    VerifyCa,
    /// TLS, to a server with a trusted certificate of its own name.
    VerifyFull,
}

impl SslMode {
    const ALL: [(&'static str, SslMode); 5] = [
        ("disable", SslMode::Disable),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
}

/// The URL of a PostgreSQL database. It prints without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    connection: String,
    ssl_mode: SslMode,
    root_cert: Option<PathBuf>,
}

impl std::str::FromStr for PostgresUrl {
    type Err = String;

    /// Reads a URL; a relative `sslrootcert` starts at the working directory.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, Path::new(""))
    }
}

impl PostgresUrl {
    /// Reads a URL; a relative `sslrootcert` starts at `folder`.
    ///
    /// # Errors
    /// What is expected instead. The text holds nothing of the URL but its parameters' names.
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        if !["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
        {
            return Err(EXAMPLE.to_owned());
        }
        let mut url = Url::parse(text).map_err(|error| {
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
        let query = url.query().unwrap_or_default().to_owned();
        let (mut ssl_mode, mut root_cert, mut kept) = (SslMode::default(), None, Vec::new());
        let mut has_host = url.host_str().is_some_and(|host| !host.is_empty());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = decode(pair);
            match name.as_str() {
                "sslmode" => ssl_mode = mode(&value)?,
                "sslrootcert" => root_cert = (value != "system").then(|| folder.join(&value)),
                known if PARAMETERS.contains(&known) => {
                    has_host |= matches!(known, "host" | "hostaddr");
                    kept.push(pair);
                }
                other => {
                    return Err(format!(
                        "no parameter {other} (known: sslmode, sslrootcert, {})",
                        PARAMETERS.join(", ")
                    ));
                }
            }
        }
        if !has_host {
            return Err(format!("{EXAMPLE} (with a host)"));
        }
        let kept = kept.join("&");
        url.set_query((!kept.is_empty()).then_some(&kept));
        Ok(PostgresUrl {
            connection: url.into(),
            ssl_mode,
            root_cert,
        })
    }

    /// The URL for the driver: with the password, without `sslmode` and `sslrootcert`.
    pub fn connection_url(&self) -> &str {
        &self.connection
    }

    /// How far TLS goes.
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    /// The authorities to trust; those of the system if `None`.
    pub fn root_cert(&self) -> Option<&Path> {
        self.root_cert.as_deref()
    }
}

/// Unlike in a web form, a plus sign is a plus sign here.
fn decode(pair: &str) -> (String, String) {
    let pair = pair.replace('+', "%2B");
    let decoded = form_urlencoded::parse(pair.as_bytes()).next();
    decoded
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .unwrap_or_default()
}

fn mode(text: &str) -> Result<SslMode, String> {
    let named = SslMode::ALL.iter().find(|(name, _)| *name == text);
    named.map(|(_, mode)| *mode).ok_or_else(|| {
        let names = SslMode::ALL.map(|(name, _)| name).join(", ");
        format!("an sslmode that is one of {names}")
    })
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
        assert!(parse("postgres:///db?host=/var/run/postgresql").is_ok());
        assert!(parse("postgres:///db").is_err());
    }
}
