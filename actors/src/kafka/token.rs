//! Tokens for OAUTHBEARER: from a file that someone keeps fresh, or from a program that is run each time.
//!
//! librdkafka asks again when four fifths of a token's life are over, and ten seconds after a failure. Nothing of what was
//! read is ever part of an error: it may be the token.

use std::{
    error::Error,
    fs,
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rdkafka::client::OAuthToken;
use serde::Deserialize;
use sitewatch_config::{KafkaSettings, Sasl, TokenCommand, TokenSource};
use slog::{Logger, info, warn};
use thiserror::Error;

/// The longest answer that is read, in bytes.
const LONGEST: u64 = 64 << 10;
/// Who a token is for is metadata to the client; brokers read it from the token.
const UNNAMED: &str = "sitewatch";

/// Why there is no token.
#[derive(Debug, Error)]
enum TokenError {
    #[error("{0} can't be read: {1}")]
    File(String, std::io::Error),
    #[error("{0} can't be started: {1}")]
    Start(String, std::io::Error),
    #[error("{0} did not end within {1:?} and was killed")]
    Late(String, Duration),
    #[error("{0} failed ({1}); its output is not shown, since it may hold a secret")]
    Failed(String, std::process::ExitStatus),
    #[error("{0} can't be waited for: {1}")]
    Wait(String, std::io::Error),
    #[error("{0} gave more than {LONGEST} bytes")]
    Long(String),
    #[error("{0} gave nothing")]
    Empty(String),
    #[error("{0} gave something that is neither a token on one line nor JSON with a token: {1}")]
    Unreadable(String, &'static str),
    #[error(
        "{0} gave a token that does not say when it expires, neither by a claim `exp` nor beside it (expires_in, expires_at)"
    )]
    Endless(String),
    #[error("{0} gave a token that expired at {1}")]
    Expired(String, humantime::Rfc3339Timestamp),
}

/// Gets tokens, and says once when that begins to fail and once when it works again.
pub(super) struct Tokens {
    source: TokenSource,
    /// What was last told to be wrong.
    told: Mutex<Option<String>>,
    log: Logger,
}

impl Tokens {
    /// Those that the settings ask for, if they do.
    pub(super) fn of(settings: &KafkaSettings, log: &Logger) -> Option<Self> {
        match &settings.sasl {
            Some(Sasl::Token(source)) => Some(Self {
                source: source.clone(),
                told: Mutex::default(),
                log: log.clone(),
            }),
            _ => None,
        }
    }

    /// A token that is valid now. Takes as long as the program may take, so that the thread that polls the client does
    /// not hang for ever.
    pub(super) fn next(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let token = get(&self.source, SystemTime::now());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match &token {
            Ok(_) if told.take().is_some() => info!(self.log, "there is a token for Kafka again"),
            Ok(_) => {}
            Err(problem) => {
                let reason = problem.to_string();
                if told.as_ref() != Some(&reason) {
                    warn!(self.log, "no token for Kafka, trying on"; "reason" => &reason);
                    *told = Some(reason);
                }
            }
        }
        Ok(token?)
    }
}

fn get(source: &TokenSource, now: SystemTime) -> Result<OAuthToken, TokenError> {
    let (name, bytes) = match source {
        TokenSource::File(path) => (path.display().to_string(), read_file(path)?),
        TokenSource::Command(command) => (
            command.program.display().to_string(),
            run(command, command.program.display().to_string())?,
        ),
    };
    if bytes.len() as u64 > LONGEST {
        return Err(TokenError::Long(name));
    }
    read(name, &String::from_utf8_lossy(&bytes), now)
}

fn read_file(path: &Path) -> Result<Vec<u8>, TokenError> {
    let failed = |error| TokenError::File(path.display().to_string(), error);
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(bytes)
}

/// Runs the program without a shell. It does not get the node's own settings: they hold other secrets.
fn run(command: &TokenCommand, name: String) -> Result<Vec<u8>, TokenError> {
    let mut program = Command::new(&command.program);
    program
        .args(command.arguments.iter().map(|argument| argument.reveal()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if text == "POSTGRES_URL" || text.starts_with("SITEWATCH__") {
            program.env_remove(&variable);
        }
    }
    let begun = Instant::now();
    let mut child = program
        .spawn()
        .map_err(|error| TokenError::Start(name.clone(), error))?;
    let (done, output) = mpsc::channel();
    let stdout = child.stdout.take();
    // On a thread of its own: what the program has started may keep the pipe open after it is killed.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stdout) = stdout {
            // A pipe that breaks ends the output.
            let _ = stdout.take(LONGEST + 1).read_to_end(&mut bytes);
        }
        // Nobody waits any more after the time is up.
        let _ = done.send(bytes);
    });
    let left = || command.timeout.saturating_sub(begun.elapsed());
    let Ok(bytes) = output.recv_timeout(command.timeout) else {
        end(&mut child);
        return Err(TokenError::Late(name, command.timeout));
    };
    // Nobody reads on: it waits for a reader, or has ended because there is none. That it failed then is not what was wrong.
    if bytes.len() as u64 > LONGEST {
        end(&mut child);
        return Err(TokenError::Long(name));
    }
    // The output is there; the end of the program is near.
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(bytes),
            Ok(Some(status)) => return Err(TokenError::Failed(name, status)),
            Ok(None) if left().is_zero() => {
                end(&mut child);
                return Err(TokenError::Late(name, command.timeout));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(TokenError::Wait(name, error)),
        }
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself meanwhile.
    let _ = child.kill();
    let _ = child.wait();
}

/// What a program may print, and what token endpoints answer.
#[derive(Deserialize)]
struct Answer {
    #[serde(alias = "access_token")]
    token: String,
    expires_in: Option<f64>,
    expires_at: Option<Instant8601>,
    principal: Option<String>,
}

/// Seconds since 1970, or RFC 3339.
#[derive(Deserialize)]
#[serde(untagged)]
enum Instant8601 {
    Seconds(f64),
    Text(String),
}

/// What is read of a token: it is the broker's to verify it.
#[derive(Default, Deserialize)]
struct Claims {
    exp: Option<f64>,
    sub: Option<String>,
}

fn read(name: String, text: &str, now: SystemTime) -> Result<OAuthToken, TokenError> {
    let text = text.trim();
    let unreadable = |why| TokenError::Unreadable(name.clone(), why);
    let answer = match text {
        "" => return Err(TokenError::Empty(name)),
        // The parser's own words may repeat what it read.
        text if text.starts_with('{') => {
            serde_json::from_str(text).map_err(|_| unreadable("JSON without a text `token`"))?
        }
        token => Answer {
            token: token.to_owned(),
            expires_in: None,
            expires_at: None,
            principal: None,
        },
    };
    if answer.token.is_empty() || !answer.token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unreadable("a token is one word"));
    }
    let claims = claims(&answer.token);
    let since_1970 = |seconds: f64| {
        Duration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|since| UNIX_EPOCH.checked_add(since))
    };
    let expires = match (answer.expires_at, answer.expires_in) {
        (Some(Instant8601::Seconds(seconds)), _) => since_1970(seconds),
        (Some(Instant8601::Text(text)), _) => humantime::parse_rfc3339(&text).ok(),
        (None, Some(seconds)) => Duration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|left| now.checked_add(left)),
        (None, None) => claims.exp.and_then(since_1970),
    };
    let Some(expires) = expires else {
        return Err(TokenError::Endless(name));
    };
    if expires <= now {
        let at = humantime::format_rfc3339_seconds(expires);
        return Err(TokenError::Expired(name, at));
    }
    let lifetime = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
    let principal = answer.principal.or(claims.sub);
    Ok(OAuthToken {
        token: answer.token,
        principal_name: principal
            .filter(|name| !name.is_empty() && !name.contains('\0'))
            .unwrap_or_else(|| UNNAMED.to_owned()),
        lifetime_ms: i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX),
    })
}

/// The claims of a JWT; none of a token of another kind.
fn claims(token: &str) -> Claims {
    let payload = token.split('.').nth(1).unwrap_or_default();
    URL_SAFE_NO_PAD
        .decode(payload.trim_end_matches('='))
        .ok()
        .and_then(|payload| serde_json::from_slice(&payload).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sitewatch_config::Secret;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn jwt(claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", part(r#"{"alg":"none"}"#), part(claims))
    }

    fn shown(text: &str) -> Result<(String, String, i64), String> {
        read("x".to_owned(), text, at(1000))
            .map(|token| (token.token, token.principal_name, token.lifetime_ms))
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_token_comes_bare_or_in_json_and_its_end_from_either() {
        let token = jwt(r#"{"sub":"me","exp":2000}"#);
        let named = |name: &str, ms| Ok((token.clone(), name.to_owned(), ms));
        assert_eq!(shown(&format!(" {token}\n")), named("me", 2_000_000));
        for (more, name, ms) in [
            ("", "me", 2_000_000),
            (r#", "expires_in": 60"#, "me", 1_060_000),
            (r#", "expires_at": 1500.5"#, "me", 1_500_500),
            (r#", "expires_at": "1970-01-01T00:20:00Z""#, "me", 1_200_000),
            (r#", "principal": "you", "other": [1]"#, "you", 2_000_000),
        ] {
            for key in ["token", "access_token"] {
                assert_eq!(
                    shown(&format!(r#"{{"{key}": "{token}"{more}}}"#)),
                    named(name, ms)
                );
            }
        }
        let opaque = Ok(("opaque".to_owned(), UNNAMED.to_owned(), 1_060_000));
        assert_eq!(shown(r#"{"token":"opaque","expires_in":60}"#), opaque);
    }

    #[test]
    fn what_is_no_token_is_told_without_a_word_of_it() {
        for (text, says) in [
            ("", "gave nothing"),
            ("opaque-CANARY", "does not say when it expires"),
            ("two CANARY", "a token is one word"),
            (r#"{"tokn":"CANARY"}"#, "without a text `token`"),
            (r#"{"token":"CANARY""#, "without a text `token`"),
            (r#"{"token":"CANARY","expires_in":-1}"#, "does not say when"),
            (
                r#"{"token":"CANARY","expires_at":"CANARY"}"#,
                "does not say when",
            ),
            (&jwt(r#"{"exp":999}"#), "expired at 1970-01-01T00:16:39Z"),
        ] {
            let problem = shown(text).unwrap_err();
            assert!(problem.contains(says), "{text}: {problem}");
            assert!(!problem.contains("CANARY"), "{problem}");
        }
    }

    #[test]
    fn a_program_is_run_without_a_shell_within_its_time_and_its_output_is_kept_back() {
        let command = |words: &[&str], millis| {
            let command = TokenCommand {
                program: words[0].into(),
                arguments: words[1..].iter().map(|word| Secret::new(*word)).collect(),
                timeout: Duration::from_millis(millis),
            };
            run(&command, words[0].to_owned())
                .map(|bytes| String::from_utf8(bytes).unwrap())
                .map_err(|problem| problem.to_string())
        };
        assert_eq!(
            command(&["echo", "$HOME; a"], 20_000).unwrap(),
            "$HOME; a\n"
        );
        let failed = command(
            &["sh", "-c", "echo CANARY; echo CANARY >&2; exit 3"],
            20_000,
        );
        let failed = failed.unwrap_err();
        assert!(failed.contains("exit status: 3") && !failed.contains("CANARY"));
        let late = command(&["sleep", "60"], 100).unwrap_err();
        assert!(late.contains("did not end within 100ms"), "{late}");
        // A grandchild has the pipe.
        let late = command(&["sh", "-c", "sleep 60 & wait"], 100).unwrap_err();
        assert!(late.contains("did not end within"), "{late}");
        let long = command(&["yes"], 20_000).unwrap_err();
        assert!(long.contains("more than"), "{long}");
        let absent = command(&["/no/such/program"], 1000).unwrap_err();
        assert!(
            absent.contains("/no/such/program can't be started"),
            "{absent}"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_read_ends_as_a_token_of_the_future_or_an_error(text in ".{0,200}", json in any::<bool>()) {
            let text = if json { serde_json::json!({"token": text, "expires_in": 5}).to_string() } else { text };
            if let Ok(token) = read("x".to_owned(), &text, at(1000)) {
                prop_assert!(token.lifetime_ms > 1_000_000);
                prop_assert!(!token.token.is_empty() && token.token.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
