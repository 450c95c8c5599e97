//! What to do about a database error. Pure.

use tokio_postgres::error::SqlState;

/// What an error of the database calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Connect anew and try again, for as long as it takes.
    Reconnect,
    /// The same work may succeed on the same connection: try again after a while.
    Retry,
    /// Some rows are there already: go the way that absorbs duplicates.
    Absorb,
    /// A partition is missing that was believed to exist: look again, then try again.
    Repartition,
    /// Some row does not fit: find it and set it aside.
    SetAside,
}

/// Chooses the remedy; `None` is an error of the connection itself. Anything unknown is tried again with a new
/// connection: a message is never given up because of an error that is not its own.
pub(super) fn remedy(state: Option<&SqlState>, message: &str) -> Remedy {
    let Some(state) = state else {
        return Remedy::Reconnect;
    };
    match state {
        state if *state == SqlState::UNIQUE_VIOLATION => Remedy::Absorb,
        // PostgreSQL reports a row without a partition as a check violation, told apart only by its text.
        state
            if *state == SqlState::CHECK_VIOLATION
                && message.contains("no partition of relation") =>
        {
            Remedy::Repartition
        }
        state => match &state.code()[..2] {
            // Data exceptions, integrity violations.
            "22" | "23" => Remedy::SetAside,
            // Serialization failure, deadlock; insufficient resources; lock not available.
            "40" | "53" | "55" => Remedy::Retry,
            _ => Remedy::Reconnect,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_remedy() {
        let table = [
            (Some("08006"), Remedy::Reconnect),
            (Some("57P01"), Remedy::Reconnect),
            (Some("28P01"), Remedy::Reconnect),
            (Some("42P01"), Remedy::Reconnect),
            (Some("40001"), Remedy::Retry),
            (Some("40P01"), Remedy::Retry),
            (Some("53100"), Remedy::Retry),
            (Some("55P03"), Remedy::Retry),
            (Some("23505"), Remedy::Absorb),
            (Some("22021"), Remedy::SetAside),
            (Some("23514"), Remedy::SetAside),
            (None, Remedy::Reconnect),
        ];
        for (code, expected) in table {
            assert_eq!(
                remedy(code.map(SqlState::from_code).as_ref(), "text"),
                expected,
                "{code:?}"
            );
        }
        let text = "no partition of relation \"check_result\" found for row";
        assert_eq!(
            remedy(Some(&SqlState::CHECK_VIOLATION), text),
            Remedy::Repartition
        );
    }
}
