//! Who the node is to the brokers, by a password or by a token.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::fields::Fields;
use crate::item::Item;
use crate::reference;
use crate::secret::Secret;

/// How the node logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sasl {
    /// By name and password.
    Password {
        /// How the password is shown to the broker.
        mechanism: SaslMechanism,
        /// The user's name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// By a token that is asked for again before it expires: OAUTHBEARER.
    Token(TokenSource),
}

/// How a password is shown to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// In the clear.
    Plain,
    /// By SCRAM with SHA-256.
    ScramSha256,
    /// By SCRAM with SHA-512.
    ScramSha512,
}

/// Where tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// From a file, which someone else keeps fresh.
    File(PathBuf),
    /// From the standard output of a program.
    Command(TokenCommand),
}

/// A program that prints a token.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenCommand {
    /// The program: a name that `PATH` leads to, or a path.
    pub program: PathBuf,
    /// What it is given, as it is: there is no shell.
    pub arguments: Vec<Secret>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Hides the arguments.
impl fmt::Debug for TokenCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({} arguments, {:?})",
            self.program.display(),
            self.arguments.len(),
            self.timeout
        )
    }
}

#[derive(Clone, Copy)]
enum Mechanism {
    Password(SaslMechanism),
    OauthBearer,
}

const MECHANISMS: [(&str, Mechanism); 4] = [
    ("PLAIN", Mechanism::Password(SaslMechanism::Plain)),
    (
        "SCRAM-SHA-256",
        Mechanism::Password(SaslMechanism::ScramSha256),
    ),
    (
        "SCRAM-SHA-512",
        Mechanism::Password(SaslMechanism::ScramSha512),
    ),
    ("OAUTHBEARER", Mechanism::OauthBearer),
];

impl SaslMechanism {
    /// The name Kafka knows it by.
    pub fn as_str(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

pub(crate) fn sasl(kafka: &Fields<'_>) -> Option<Sasl> {
    let sasl = kafka.section("sasl");
    if !sasl.is_written() {
        return None;
    }
    let mechanism = sasl.item("mechanism");
    if mechanism.is_none() {
        let names = MECHANISMS.map(|(name, _)| name).join(", ");
        sasl.missing("mechanism", format!("one of {names}"));
    }
    let mechanism = mechanism.and_then(|item| item.choice(&MECHANISMS));
    let read = match mechanism {
        Some(Mechanism::OauthBearer) => {
            for name in ["username", "password"] {
                if let Some(item) = sasl.item(name) {
                    item.found::<()>(
                        format!("a {name}"),
                        "none: OAUTHBEARER logs in by token_file or token_command",
                    );
                }
            }
            token(&sasl).map(Sasl::Token)
        }
        password => {
            for name in ["token_file", "token_command", "token_timeout"] {
                if let (Some(item), Some(_)) = (sasl.item(name), password) {
                    item.found::<()>(format!("a {name}"), "none, or the mechanism OAUTHBEARER");
                }
            }
            by_password(&sasl, password)
        }
    };
    sasl.finish();
    read
}

fn by_password(sasl: &Fields<'_>, mechanism: Option<Mechanism>) -> Option<Sasl> {
    let (username, password) = (sasl.item("username"), sasl.item("password"));
    for (name, item) in [("username", &username), ("password", &password)] {
        if item.is_none() {
            sasl.missing(name, "mechanism, username and password together");
        }
    }
    let username = username.and_then(|item| {
        item.text("the user's name")?;
        reference::follow(&item, "the user's name")
    });
    let password = password.and_then(|item| reference::secret(&item, "the password"));
    match mechanism? {
        Mechanism::Password(mechanism) => Some(Sasl::Password {
            mechanism,
            username: username?.text,
            password: password?,
        }),
        Mechanism::OauthBearer => None,
    }
}

fn token(sasl: &Fields<'_>) -> Option<TokenSource> {
    let timeout = sasl
        .item("token_timeout")
        .and_then(|item| item.duration(Duration::from_millis(100)..=Duration::from_secs(60)));
    let (file, command) = (sasl.item("token_file"), sasl.item("token_command"));
    match (file, command) {
        // Whether the file is there is seen each time: who writes it may start later.
        (Some(file), None) => file.path().map(TokenSource::File),
        (None, Some(command)) => {
            let words = words(&command)?;
            let (program, arguments) = words.split_first()?;
            // A name alone is for `PATH`; `./name` starts at the settings file.
            let program = if program.contains('/') {
                command.folder().join(program)
            } else {
                PathBuf::from(program)
            };
            Some(TokenSource::Command(TokenCommand {
                program,
                arguments: arguments.iter().map(Secret::new).collect(),
                timeout: timeout.unwrap_or(Duration::from_secs(10)),
            }))
        }
        (Some(_), Some(command)) => {
            command.found("a command beside a token_file", "only one of the two")
        }
        (None, None) => {
            sasl.missing(
                "token_file",
                "where tokens come from: token_file, or token_command with a program and its arguments",
            );
            None
        }
    }
}

/// The words of a command: a list, with references to secrets in it followed. Never shown, since they may hold some.
fn words(item: &Item<'_>) -> Option<Vec<String>> {
    let expected = "a list: a program and its arguments, each as text";
    let words: Vec<String> = item
        .list(expected)?
        .iter()
        .map(|word| match &word.value.kind {
            config::ValueKind::String(text) if !text.contains('\0') => {
                reference::fill_in(word, text).map(|word| word.text)
            }
            config::ValueKind::String(_) => word.found("a zero byte", "text"),
            _ => word.wrong_type(expected),
        })
        .collect::<Option<_>>()?;
    match words.first() {
        Some(program) if !program.trim().is_empty() => Some(words),
        _ => item.found("no program", expected),
    }
}
