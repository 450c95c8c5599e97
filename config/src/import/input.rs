//! The text of the input as a tree.

use config::{FileFormat, Format, Map, Value};

use super::ImportError;
use crate::file;

/// Parses a YAML document.
pub(super) fn yaml(text: &str) -> Result<Map<String, Value>, ImportError> {
    parse(FileFormat::Yaml, text)
}

/// Parses a JSON object.
pub(super) fn json(text: &str) -> Result<Map<String, Value>, ImportError> {
    parse(FileFormat::Json, text)
}

fn parse(format: FileFormat, text: &str) -> Result<Map<String, Value>, ImportError> {
    format.parse(None, text).map_err(|error| {
        let (found, expected) = file::describe(format, &*error);
        ImportError {
            found,
            expected: expected.to_owned(),
        }
    })
}

/// The documents of a YAML stream: the parser wants them one by one. A line that begins with `---` always
/// parts two documents, since everything inside one that could look like it is indented.
pub(super) fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        let rest = line
            .strip_prefix("---")
            .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if rest.is_some() || line == "..." {
            documents.push(String::new());
        }
        if line != "..."
            && let Some(document) = documents.last_mut()
        {
            document.push_str(rest.unwrap_or(line));
            document.push('\n');
        }
    }
    let is_empty = |document: &String| {
        document
            .lines()
            .map(str::trim)
            .all(|line| line.is_empty() || line.starts_with(['#', '%']))
    };
    documents.retain(|document| !is_empty(document));
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_the_documents_of_a_stream() {
        assert_eq!(
            documents("# top\n---\na: |\n  ---\n--- # second\nb: 1\n...\n"),
            ["\na: |\n  ---\n", " # second\nb: 1\n"]
        );
        assert_eq!(documents("a: 1\n"), ["a: 1\n"]);
        assert!(documents("---\n").is_empty());
    }

    #[test]
    fn keeps_the_case_and_the_order_of_keys() {
        let table = yaml("Zeta: 1\nALPHA: { X-Mixed: 2 }").unwrap();
        assert_eq!(table.keys().collect::<Vec<_>>(), ["Zeta", "ALPHA"]);
        let json = json(r#"{"Zeta": 1, "ALPHA": 2}"#).unwrap();
        assert_eq!(json.keys().collect::<Vec<_>>(), ["Zeta", "ALPHA"]);
    }
}
