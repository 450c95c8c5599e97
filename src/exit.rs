//! How the program ends when it can't do what it was asked, with the codes of sysexits.h.

use std::{
    fmt::{self, Display},
    io::{self, Write},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use tokio::signal::unix::SignalKind;

/// How long the end waits for whoever reads standard error.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why the program ends, and with which code. It displays as the message alone.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The code of a command line that makes no sense (EX_USAGE).
    pub const USAGE: u8 = 64;

    /// The command line makes no sense.
    pub fn usage(message: impl Display) -> Self {
        Self {
            code: Self::USAGE,
            message: message.to_string(),
        }
    }

    /// A service is not there (EX_UNAVAILABLE).
    pub fn unavailable(message: impl Display) -> Self {
        Self {
            code: 69,
            message: message.to_string(),
        }
    }

    /// The program itself failed (EX_SOFTWARE).
    pub fn software(message: impl Display) -> Self {
        Self {
            code: 70,
            message: message.to_string(),
        }
    }

    /// A file or a pipe does not take what is written (EX_IOERR).
    pub fn io(message: impl Display) -> Self {
        Self {
            code: 74,
            message: message.to_string(),
        }
    }

    /// Something was left undone, and is done by another start (EX_TEMPFAIL).
    pub fn undone(message: impl Display) -> Self {
        Self {
            code: 75,
            message: message.to_string(),
        }
    }

    /// The settings are wrong (EX_CONFIG).
    pub fn config(message: impl Display) -> Self {
        Self {
            code: 78,
            message: message.to_string(),
        }
    }

    /// A signal has ended it (128 and the number of the signal, as shells have it).
    pub fn interrupted(signal: SignalKind) -> Self {
        let number = signal.as_raw_value();
        Self {
            // No system has a signal of a larger number.
            code: u8::try_from(number).map_or(u8::MAX, |number| number.saturating_add(128)),
            message: format!("ended by signal {number}"),
        }
    }

    /// The code with which the process ends.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Prints the message where people look for it and gives the code.
    pub fn tell(&self) -> ExitCode {
        let line = format!("sitewatch-node: {}\n", self.message);
        let (written, end) = mpsc::channel();
        // On a thread of its own: a reader that has stopped must not hold up the end. With standard error closed there is nobody
        // to tell. The code still says it.
        let writing = thread::Builder::new().spawn(move || {
            let _ = io::stderr().write_all(line.as_bytes());
            let _ = written.send(());
        });
        if writing.is_ok() {
            let _ = end.recv_timeout(FAREWELL);
        }
        ExitCode::from(self.code)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
