//! What to do about a database error. Pure: a table of SQLSTATEs (PostgreSQL's documentation, appendix A).

use tokio_postgres::Error;

/// What an error of the database calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Connect anew, perhaps to another server, and try again, for as long as it takes.
    Reconnect,
    /// The same work may succeed on the same connection: try again after a while.
    Retry,
    /// Some rows are there already: go the way that absorbs duplicates.
    Absorb,
    /// A partition is missing that was believed to exist: look again, then try again.
    Repartition,
    /// Some row does not fit: find it and set it aside.
    SetAside,
    /// The tables are not as they should be: connect anew, which compares them with the schema and mends or stops.
    Drift,
    /// Somebody has to grant, or to write another password: connect anew and try on, since that may happen at any time.
    Denied,
}

/// What the server told of an error, as far as it decides about the remedy. None of it is in a language of people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told<'a> {
    /// The SQLSTATE; `None` for an error of the connection itself.
    pub(super) code: Option<&'a str>,
    /// The server's function that raised it.
    pub(super) routine: Option<&'a str>,
    pub(super) table: Option<&'a str>,
    pub(super) column: Option<&'a str>,
    pub(super) constraint: Option<&'a str>,
}

impl<'a> From<&'a Error> for Told<'a> {
    fn from(error: &'a Error) -> Self {
        let Some(told) = error.as_db_error() else {
            return Told::default();
        };
        Told {
            code: Some(told.code().code()),
            routine: told.routine(),
            table: told.table(),
            column: told.column(),
            constraint: told.constraint(),
        }
    }
}

/// The remedy of an error.
pub(super) fn remedy_of(error: &Error) -> Remedy {
    remedy(&Told::from(error), super::expected::fills)
}

/// Chooses the remedy; `fills` says whether the program gives a value to a column. Anything unknown is tried again with a
/// new connection: a message is never given up because of an error that is not its own.
fn remedy(told: &Told<'_>, fills: impl Fn(&str, &str) -> bool) -> Remedy {
    let Some(code) = told.code else {
        return Remedy::Reconnect;
    };
    match code {
        "23505" => Remedy::Absorb,
        // A row without a partition is reported as a check violation. Such a one of somebody's constraint names it; this one
        // names its table only. The text would tell them apart as well, but in the language of the server.
        "23514"
            if told.routine == Some("ExecFindPartition")
                || (told.table.is_some() && told.constraint.is_none()) =>
        {
            Remedy::Repartition
        }
        // Null in a column that the program does not know: somebody added it. All rows would be refused.
        "23502"
            if told
                .table
                .zip(told.column)
                .is_some_and(|(table, column)| !fills(table, column)) =>
        {
            Remedy::Drift
        }
        // Binary values of another type or number than the table has: of all rows, so it is not the row's fault.
        "22P03" | "22P04" => Remedy::Drift,
        // Whether a commit came through is not known: a new connection asks.
        "40003" => Remedy::Reconnect,
        // No right: on a table (42501), or none at all to come in.
        "42501" => Remedy::Denied,
        // Two made the same thing at once; the second look finds it.
        "42P06" | "42P07" | "42710" => Remedy::Retry,
        // A statement that took longer than `statement_timeout`, or that somebody cancelled.
        "57014" => Remedy::Retry,
        _ => of_class(code.get(..2).unwrap_or_default()),
    }
}

fn of_class(class: &str) -> Remedy {
    match class {
        // Data exceptions; integrity violations, also those of constraints that somebody added; what a trigger raises
        // (P0); a view's check option (44).
        "22" | "23" | "44" | "P0" => Remedy::SetAside,
        // Program limits, as of an index's row or of JSON's depth: the same row will always be over them.
        "54" => Remedy::SetAside,
        // Serialization failure, deadlock; insufficient resources; locks not available; snapshot too old.
        "40" | "53" | "55" | "72" => Remedy::Retry,
        // Wrong credentials.
        "28" => Remedy::Denied,
        // Missing or other tables, columns, functions, types; no such schema; what this kind of table can't do, as a view
        // or a foreign table in the place of ours (0A).
        "42" | "3F" | "0A" => Remedy::Drift,
        // The connection (08), read-only after a failover (25006), a session that was ended (25P03, 57P01), a prepared
        // statement that a pooler lost (26), the system's files (58). Corruption and internal errors (XX) too: they are
        // nobody's row, and only a person can mend them. And all that is not known here.
        _ => Remedy::Reconnect,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn remedy_for(code: &str) -> Remedy {
        let told = Told {
            code: Some(code),
            ..Told::default()
        };
        remedy(&told, |_, _| true)
    }

    #[test]
    fn each_code_has_its_remedy() {
        use Remedy::*;
        let table: [(Remedy, &[&str]); 7] = [
            (
                Reconnect,
                &[
                    "08000", "08003", "08006", "08P01", "25006", "25P02", "25P03", "26000",
                    "57P01", "57P02", "57P03", "57P05", "58030", "3D000", "40003", "XX000",
                    "XX001", "XX002", "F0000", "HV000",
                ],
            ),
            (
                Retry,
                &[
                    "40001", "40P01", "53100", "53200", "53300", "55P03", "55006", "57014",
                    "72000", "42P07", "42710",
                ],
            ),
            (Absorb, &["23505"]),
            (
                SetAside,
                &[
                    "22001", "22003", "22008", "22021", "22P02", "22P05", "23000", "23001",
                    "23502", "23503", "23514", "23P01", "44000", "54000", "54001", "P0001",
                ],
            ),
            (
                Drift,
                &[
                    "42P01", "42703", "42704", "42804", "42883", "42P10", "42601", "3F000",
                    "22P03", "22P04", "0A000",
                ],
            ),
            (Denied, &["42501", "28000", "28P01"]),
            (Repartition, &[]),
        ];
        for (expected, codes) in table {
            for code in codes {
                assert_eq!(remedy_for(code), expected, "{code}");
            }
        }
        assert_eq!(remedy(&Told::default(), |_, _| true), Reconnect);
    }

    #[test]
    fn a_missing_partition_is_told_from_a_broken_rule_without_the_text() {
        let told = Told {
            code: Some("23514"),
            table: Some("check_result"),
            ..Told::default()
        };
        let rule = Told {
            constraint: Some("status_is_http"),
            routine: Some("ExecConstraints"),
            ..told
        };
        let found = Told {
            routine: Some("ExecFindPartition"),
            table: None,
            ..told
        };
        let of = |told| remedy(&told, |_, _| true);
        assert_eq!(
            [of(told), of(found), of(rule)],
            [Remedy::Repartition, Remedy::Repartition, Remedy::SetAside]
        );
    }

    #[test]
    fn a_column_that_nobody_fills_is_the_tables_fault() {
        let told = Told {
            code: Some("23502"),
            table: Some("check_result"),
            column: Some("added"),
            ..Told::default()
        };
        assert_eq!(remedy(&told, |_, _| false), Remedy::Drift);
        assert_eq!(remedy(&told, |_, _| true), Remedy::SetAside);
    }

    proptest! {
        #[test]
        fn only_what_is_a_rows_own_fault_is_ever_set_aside(code in "[0-9A-Z]{5}") {
            let known = ["22", "23", "44", "54", "P0"].contains(&&code[..2]);
            prop_assert!(known || remedy_for(&code) != Remedy::SetAside, "{}", code);
        }

        #[test]
        fn an_unknown_class_is_tried_again(class in "[G-OQ-WYZ][0-9A-Z]", rest in "[0-9A-Z]{3}") {
            prop_assert_eq!(remedy_for(&format!("{class}{rest}")), Remedy::Reconnect);
        }

        #[test]
        fn no_text_of_a_server_makes_it_panic(code in ".*") {
            remedy_for(&code);
        }
    }
}
