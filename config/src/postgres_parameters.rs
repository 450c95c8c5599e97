//! The parameters of a database URL: which there are, what they may hold, and who reads them.

use std::path::{Path, PathBuf};

use url::form_urlencoded;

use crate::postgres_servers::Written;

/// The parameters that are read here.
const OWN: [&str; 9] = [
    "host",
    "hostaddr",
    "load_balance_hosts",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
];

/// Those that the driver reads.
const PARAMETERS: [&str; 13] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "options",
    "password",
    "sslnegotiation",
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

/// The parameters of a URL, sorted by who needs them.
pub(crate) struct Parameters<'a> {
    pub(crate) hosts: Written<'a>,
    pub(crate) shuffled: bool,
    pub(crate) ssl_mode: SslMode,
    pub(crate) root_cert: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    /// For the driver, as they were written.
    pub(crate) kept: Vec<String>,
}

impl Parameters<'_> {
    pub(crate) fn read(query: &str, folder: &Path) -> Result<Self, String> {
        let mut read = Parameters {
            hosts: Written::default(),
            shuffled: false,
            ssl_mode: SslMode::default(),
            root_cert: None,
            cert: None,
            key: None,
            kept: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = decode(pair);
            match name.as_str() {
                "sslmode" => read.ssl_mode = mode(&value)?,
                "sslrootcert" => read.root_cert = (value != "system").then(|| folder.join(&value)),
                "sslcert" => read.cert = Some(folder.join(&value)),
                "sslkey" => read.key = Some(folder.join(&value)),
                "host" => read.hosts.host = Some(value),
                "hostaddr" => read.hosts.hostaddr = Some(value),
                "port" => read.hosts.port = Some(value),
                "load_balance_hosts" => {
                    read.shuffled = one_of(&name, &value, &["disable", "random"])? == 1;
                }
                "target_session_attrs" => {
                    // The driver knows the older half of libpq's words; the newer ones mean nearly the same.
                    let words = ["any", "read-write", "read-only", "primary", "standby"];
                    let driver = ["any", "read-write", "read-only", "read-write", "read-only"];
                    let word = driver[one_of(&name, &value, &words)?];
                    read.kept.push(format!("{name}={word}"));
                }
                known if PARAMETERS.contains(&known) => {
                    check(known, &value)?;
                    read.kept.push(pair.to_owned());
                }
                other => {
                    return Err(format!(
                        "no parameter {other} (known: {}, {})",
                        OWN.join(", "),
                        PARAMETERS.join(", ")
                    ));
                }
            }
        }
        Ok(read)
    }
}

/// Checks what the driver would refuse only when it connects.
fn check(name: &str, value: &str) -> Result<(), String> {
    match name {
        "channel_binding" => {
            one_of(name, value, &["disable", "prefer", "require"])?;
        }
        "sslnegotiation" => {
            one_of(name, value, &["postgres", "direct"])?;
        }
        "connect_timeout"
        | "tcp_user_timeout"
        | "keepalives"
        | "keepalives_idle"
        | "keepalives_interval"
        | "keepalives_retries" => {
            let number: Option<u32> = value.parse().ok();
            number.ok_or_else(|| format!("a whole number as {name}"))?;
        }
        _ => {}
    }
    Ok(())
}

/// The place of `value` among `words`.
fn one_of(name: &str, value: &str, words: &[&str]) -> Result<usize, String> {
    let place = words.iter().position(|word| *word == value);
    place.ok_or_else(|| format!("a {name} that is one of {}", words.join(", ")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_the_driver_would_refuse_later_are_refused_now() {
        for (query, expected) in [
            (
                "target_session_attrs=rw",
                "a target_session_attrs that is one of any, read-write, read-only, primary, standby",
            ),
            (
                "load_balance_hosts=yes",
                "a load_balance_hosts that is one of disable, random",
            ),
            (
                "channel_binding=yes",
                "a channel_binding that is one of disable, prefer, require",
            ),
            ("connect_timeout=10s", "a whole number as connect_timeout"),
            (
                "sslmode=verify",
                "an sslmode that is one of disable, prefer, require, verify-ca, verify-full",
            ),
        ] {
            assert_eq!(
                Parameters::read(query, Path::new("")).err().as_deref(),
                Some(expected)
            );
        }
    }
}
