//! Where a value was written.
//!
//! The layers keep one text a value for this. A file is kept as its path, as the user wrote it; a variable as
//! `\0source\0name`, since a path cannot hold a zero byte.

use std::path::{Path, PathBuf};

use config::{Value, ValueKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin<'a> {
    /// A settings file.
    File(&'a str),
    /// A variable of the environment or of `.env`.
    Variable { source: &'a str, name: &'a str },
}

/// The source of what flags say.
pub(crate) const COMMAND_LINE: &str = "command line";

impl<'a> Origin<'a> {
    pub(crate) fn decode(text: &'a str) -> Self {
        match text
            .strip_prefix('\0')
            .and_then(|rest| rest.split_once('\0'))
        {
            Some((source, name)) => Origin::Variable { source, name },
            None => Origin::File(text),
        }
    }

    pub(crate) fn encode(self) -> String {
        match self {
            Origin::File(path) => path.to_owned(),
            Origin::Variable { source, name } => format!("\0{source}\0{name}"),
        }
    }

    /// The folder at which relative paths of this source start.
    pub(crate) fn folder(self, working_dir: &Path) -> PathBuf {
        match self {
            Origin::File(path) => {
                let path = working_dir.join(path);
                path.parent()
                    .map_or_else(|| working_dir.to_owned(), Path::to_owned)
            }
            Origin::Variable { .. } => working_dir.to_owned(),
        }
    }
}

/// Where a value was written; for a table, where its first value was.
pub(crate) fn origin_of(value: &Value) -> Option<&str> {
    value.origin().or_else(|| match &value.kind {
        ValueKind::Table(table) => table.values().find_map(origin_of),
        ValueKind::Array(list) => list.iter().find_map(origin_of),
        _ => None,
    })
}
