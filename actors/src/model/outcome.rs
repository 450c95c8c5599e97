//! How a check ended.

use serde::{Deserialize, Serialize};

/// How a check ended, as one word. The numbers are those of the table `outcome` and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Works.
    Up = 0,
    /// Works, but over a limit that the user set.
    Degraded = 1,
    /// Does not work.
    Down = 2,
    /// Could not be told: excluded from uptime.
    Unknown = 3,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Up, Self::Degraded, Self::Down, Self::Unknown];

    /// The word used in messages, in metrics and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }

    /// The number under which it is stored.
    pub fn id(self) -> i16 {
        self as i16
    }

    /// The outcome of a number, if it has one.
    pub fn of_id(id: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.id() == id)
    }
}
