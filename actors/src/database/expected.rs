//! How the tables of a database differ from those that this program needs. Pure.

use std::{collections::BTreeMap, fmt};

use super::tables::TABLES;
use crate::model::printable;

/// The names of all tables.
pub(super) fn tables() -> Vec<&'static str> {
    TABLES.iter().map(|table| table.name).collect()
}

/// Whether this program gives a value to `column` of `table`, or of a partition of it.
pub(super) fn fills(table: &str, column: &str) -> bool {
    TABLES
        .iter()
        .filter(|known| table.starts_with(known.name))
        .any(|known| known.columns.iter().any(|(name, _)| *name == column))
}

/// A table as the catalogue has it.
#[derive(Clone, Debug, Default)]
pub(super) struct FoundTable {
    pub(super) columns: BTreeMap<String, FoundColumn>,
    /// The columns of each primary key and each valid unique index, sorted.
    pub(super) keys: Vec<Vec<String>>,
    /// `relkind`.
    pub(super) kind: String,
    /// A partition for all that has none.
    pub(super) default_partition: Option<String>,
}

/// A column as the catalogue has it.
#[derive(Clone, Debug)]
pub(super) struct FoundColumn {
    pub(super) type_name: String,
    /// Not null, and nothing fills it by itself.
    pub(super) must_be_given: bool,
}

/// A difference between the database and what this program needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `table` or `table.column`.
    pub place: String,
    /// What is there.
    pub found: String,
    /// What would be right.
    pub right: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            found,
            right,
        } = self;
        let told = format!("{place}: found {found}; right would be {right}");
        f.write_str(&printable(&told))
    }
}

/// All differences, in the order of the tables.
pub(super) fn differences(found: &BTreeMap<String, FoundTable>) -> Vec<Difference> {
    let mut all = Vec::new();
    for table in TABLES {
        let mut tell = |place: String, found: String, right: String| {
            all.push(Difference {
                place,
                found,
                right,
            });
        };
        let Some(there) = found.get(table.name) else {
            tell(table.name.into(), "no such table".into(), "a table".into());
            continue;
        };
        let kind = if table.partitioned { "p" } else { "r" };
        if there.kind != kind {
            tell(
                table.name.into(),
                relation(&there.kind).into(),
                relation(kind).into(),
            );
            continue;
        }
        for (column, right) in table.columns {
            let place = format!("{}.{column}", table.name);
            match there.columns.get(*column) {
                None => tell(place, "no such column".into(), (*right).into()),
                Some(found) if found.type_name != *right => {
                    tell(
                        place,
                        format!("the type {}", found.type_name),
                        (*right).into(),
                    );
                }
                Some(_) => {}
            }
        }
        for (column, found) in &there.columns {
            if found.must_be_given && !table.columns.iter().any(|(name, _)| name == column) {
                tell(
                    format!("{}.{column}", table.name),
                    "a column of another's that must not be null".into(),
                    "a default for it, or null allowed".into(),
                );
            }
        }
        let mut key: Vec<_> = table.key.iter().map(|&name| name.to_owned()).collect();
        key.sort();
        if !key.is_empty() && !there.keys.contains(&key) {
            tell(
                table.name.into(),
                "no such key: rows would be stored twice".into(),
                format!(
                    "a primary key or unique index on ({})",
                    table.key.join(", ")
                ),
            );
        }
        if let Some(partition) = &there.default_partition {
            tell(
                table.name.into(),
                format!("the default partition {partition}, which stands in the way of new ones"),
                format!(
                    "none: ALTER TABLE {} DETACH PARTITION {partition}, then insert its rows again",
                    table.name
                ),
            );
        }
    }
    all
}

fn relation(kind: &str) -> &'static str {
    match kind {
        "p" => "a partitioned table",
        "r" => "a table",
        "v" => "a view",
        "m" => "a materialized view",
        "f" => "a foreign table",
        _ => "something else than a table",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tables::Table;
    use super::*;

    /// A database that has all of it.
    pub(in crate::database) fn complete() -> BTreeMap<String, FoundTable> {
        let table = |table: &Table| FoundTable {
            columns: table
                .columns
                .iter()
                .map(|(name, type_name)| {
                    let column = FoundColumn {
                        type_name: (*type_name).to_owned(),
                        must_be_given: true,
                    };
                    ((*name).to_owned(), column)
                })
                .collect(),
            keys: vec![{
                let mut key: Vec<_> = table.key.iter().map(|&name| name.to_owned()).collect();
                key.sort();
                key
            }],
            kind: if table.partitioned { "p" } else { "r" }.to_owned(),
            default_partition: None,
        };
        TABLES
            .iter()
            .map(|t| (t.name.to_owned(), table(t)))
            .collect()
    }

    fn told(change: impl FnOnce(&mut BTreeMap<String, FoundTable>)) -> String {
        let mut found = complete();
        change(&mut found);
        let all = differences(&found);
        let lines: Vec<_> = all.iter().map(Difference::to_string).collect();
        lines.join("\n")
    }

    #[test]
    fn nothing_is_said_of_a_complete_database() {
        assert_eq!(told(|_| ()), "");
    }

    #[test]
    fn each_difference_names_its_place_what_is_there_and_what_is_right() {
        assert_eq!(
            told(|found| drop(found.remove("kafka_gap"))),
            "kafka_gap: found no such table; right would be a table"
        );
        let column = |found: &mut BTreeMap<String, FoundTable>, table: &str, name: &str| {
            let columns = &mut found.get_mut(table).unwrap().columns;
            columns.remove(name).unwrap()
        };
        assert_eq!(
            told(|found| drop(column(found, "check_result", "status"))),
            "check_result.status: found no such column; right would be smallint"
        );
        assert_eq!(
            told(|found| {
                let mut next = column(found, "kafka_offset", "next");
                next.type_name = "integer".to_owned();
                let table = found.get_mut("kafka_offset").unwrap();
                table.columns.insert("next".to_owned(), next);
            }),
            "kafka_offset.next: found the type integer; right would be bigint"
        );
        assert!(
            told(|found| {
                let extra = column(found, "check_result", "error");
                let table = found.get_mut("check_result").unwrap();
                table.columns.insert("error".to_owned(), extra.clone());
                table.columns.insert("region".to_owned(), extra);
            })
            .starts_with("check_result.region: found a column of another's")
        );
        assert!(
            told(|found| found.get_mut("check_result").unwrap().keys.clear())
                .contains("(site_id, location_id, slot)")
        );
        assert!(
            told(|found| {
                let table = found.get_mut("check_detail").unwrap();
                table.default_partition = Some("rest".to_owned());
            })
            .contains("DETACH PARTITION rest")
        );
    }

    #[test]
    fn columns_of_partitions_are_known_by_their_table() {
        assert!(fills("check_result_2026112500", "slot"));
        assert!(!fills("check_result_2026112500", "region"));
    }
}
