//! Collects the problems, so that all of them can be told at once, and knows what values may refer to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::origin::Origin;
use crate::problem::{Problem, Problems};

/// Collects the problems.
pub(crate) struct Report {
    problems: RefCell<Vec<Problem>>,
    default_source: RefCell<String>,
    working_dir: PathBuf,
    variables: RefCell<BTreeMap<String, String>>,
}

impl Report {
    pub(crate) fn new(working_dir: &Path) -> Self {
        Report {
            problems: RefCell::default(),
            default_source: RefCell::new("settings".to_owned()),
            working_dir: working_dir.to_owned(),
            variables: RefCell::default(),
        }
    }

    /// Names the source of problems that are written nowhere, such as a missing setting.
    pub(crate) fn blame_by_default(&self, source: &str) {
        source.clone_into(&mut self.default_source.borrow_mut());
    }

    pub(crate) fn add(
        &self,
        origin: Option<&str>,
        key: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) {
        let (source, key) = match origin.map(Origin::decode) {
            Some(Origin::File(path)) => (path.to_owned(), key),
            Some(Origin::Variable { source, name }) => (source.to_owned(), name),
            None => (self.default_source.borrow().clone(), key),
        };
        let (key, found, expected) = (key.to_owned(), found.into(), expected.into());
        self.problems.borrow_mut().push(Problem {
            source,
            key,
            found,
            expected,
        });
    }

    /// The value, if there was no problem.
    pub(crate) fn into_result<T>(self, value: T) -> Result<T, Problems> {
        let problems = self.problems.into_inner();
        if problems.is_empty() {
            Ok(value)
        } else {
            Err(Problems(problems))
        }
    }

    /// Lets values refer to these variables.
    pub(crate) fn set_variables(&self, variables: BTreeMap<String, String>) {
        *self.variables.borrow_mut() = variables;
    }

    /// The text of a variable of the environment or of `.env`.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.variables.borrow().get(name).cloned()
    }

    pub(crate) fn working_dir(&self) -> &Path {
        &self.working_dir
    }
}
