//! A command as a process with nothing around it but what the test gives it.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// What a command printed and how it ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// Fails the test unless the command ended with this code.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }

    /// Fails the test unless all of these texts were printed, each where it should be.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.out.contains(text), "no {text:?} in\n{}", self.out);
        }
        self
    }

    /// The same of the errors.
    #[track_caller]
    pub(crate) fn complains(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.err.contains(text), "no {text:?} in\n{}", self.err);
        }
        self
    }
}

/// The program with these arguments, in this folder.
pub(crate) fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sitewatch-node"));
    command.args(arguments).current_dir(folder).env_clear();
    command
}

/// Runs a command in an empty folder.
pub(crate) fn run(arguments: &[&str]) -> Ran {
    run_with(arguments, &[], &[])
}

/// Runs a command in a folder with these files (name and text) and these variables.
pub(crate) fn run_with(
    arguments: &[&str],
    files: &[(&str, &str)],
    environment: &[(&str, &str)],
) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    program(folder.path(), arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
        .into()
}

/// Checks a URL on loopback with these flags.
pub(crate) fn check(url: &str, flags: &[&str]) -> Ran {
    run(&[&["check", url, "--allow-private"], flags].concat())
}
