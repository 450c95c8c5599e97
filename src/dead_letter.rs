//! The command `dead-letter`: looks at messages that could not be stored, stores them after all, or throws them away.

use std::{fmt::Write as _, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sitewatch_actors::{
    model::{DeadReason, Slot, printable, printable_json},
    writer::{self, LetterFilter, Letters, ReplayOrder, Replayed, StoredLetter},
};
use sitewatch_config::{LogLevel, Settings, Sources};

use crate::{
    SCHEMA, audit::failure, exit::Failure, logging::Logging, output::print,
    standalone::with_database, when::instant,
};

/// What is done with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// List them, the newest first
    List {
        /// Only those with this reason: malformed, unknown_version, absurd_slot, does_not_fit, refused
        #[arg(long, value_parser = reason)]
        reason: Option<String>,
        /// Only those received from then on: 2026-01-31T12:00:00Z, or -24h
        #[arg(long, value_name = "WHEN", allow_hyphen_values = true, value_parser = instant)]
        since: Option<Slot>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..))]
        limit: i64,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show all of one
    Show {
        /// Its number, as `list` shows it
        id: i64,
    },
    /// Read them with today's decoder and store what it understands; the letter goes in the same transaction
    Replay {
        /// Which of them
        #[command(flatten)]
        which: Which,
        /// Only say what could be read
        #[arg(long)]
        dry_run: bool,
        /// Take slots that are so old [default: postgres.max_slot_age]
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        max_slot_age: Option<Duration>,
    },
    /// Delete them for good
    Discard {
        /// Which of them
        #[command(flatten)]
        which: Which,
        /// Needed with --reason and --all: nothing brings them back
        #[arg(long)]
        yes: bool,
    },
}

/// Which letters.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Their numbers, as `list` shows them
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    /// All with this reason
    #[arg(long, value_parser = reason)]
    reason: Option<String>,
    /// All of them
    #[arg(long)]
    all: bool,
}

impl Which {
    fn filter(&self) -> LetterFilter {
        LetterFilter {
            ids: (!self.ids.is_empty()).then(|| self.ids.clone()),
            reason: self.reason.clone(),
            since: None,
        }
    }
}

fn reason(text: &str) -> Result<String, String> {
    let words = DeadReason::ALL.map(DeadReason::as_str);
    if words.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("one of {}", words.join(", ")))
}

/// Does it.
pub(crate) fn dead_letter(sources: &Sources, command: &DeadLetterCommand) -> Result<(), Failure> {
    let text = with_database(sources, "dead-letter", async |settings| {
        run(settings, command).await
    })?;
    print(&text)
}

async fn run(settings: &Settings, command: &DeadLetterCommand) -> Result<String, Failure> {
    let open = async || {
        Letters::open(&settings.postgres)
            .await
            .map_err(|error| failure(&error))
    };
    match command {
        DeadLetterCommand::List {
            reason,
            since,
            limit,
            json,
        } => {
            let letters = open().await?;
            let filter = LetterFilter {
                ids: None,
                reason: reason.clone(),
                since: *since,
            };
            let listed = letters
                .list(&filter, *limit)
                .await
                .map_err(|e| failure(&e))?;
            let count = letters.count(&filter).await.map_err(|e| failure(&e))?;
            Ok(list(&listed, count, *json))
        }
        DeadLetterCommand::Show { id } => {
            let filter = of(vec![*id]);
            let found = open().await?.page(&filter, i64::MIN).await;
            let found = found.map_err(|error| failure(&error))?;
            found.first().map(show).ok_or_else(|| absent(&[*id]))
        }
        DeadLetterCommand::Replay {
            which,
            dry_run,
            max_slot_age,
        } => {
            refuse_absent(&open().await?, which).await?;
            let logging = Logging::of_command(LogLevel::Warning)?;
            let order = ReplayOrder {
                filter: which.filter(),
                max_slot_age: max_slot_age.unwrap_or(settings.postgres.max_slot_age),
                dry_run: *dry_run,
            };
            let replayed = writer::replay(&settings.postgres, SCHEMA, &order, &logging.log).await;
            replayed
                .map(|replayed| told(&replayed, *dry_run))
                .map_err(|error| failure(&error))
        }
        DeadLetterCommand::Discard { which, yes } => {
            let letters = open().await?;
            refuse_absent(&letters, which).await?;
            if which.ids.is_empty() && !yes {
                let count = letters.count(&which.filter()).await;
                let count = count.map_err(|error| failure(&error))?;
                if count == 0 {
                    return Ok("no dead letters to discard\n".to_owned());
                }
                return Err(Failure::usage(format!(
                    "this would delete {count} dead letters for good: say --yes as well"
                )));
            }
            let gone = letters.discard(&which.filter()).await;
            gone.map(|gone| format!("{gone} dead letters discarded\n"))
                .map_err(|error| failure(&error))
        }
    }
}

fn of(ids: Vec<i64>) -> LetterFilter {
    LetterFilter {
        ids: Some(ids),
        ..LetterFilter::default()
    }
}

/// A number that is mistyped must not pass for a letter that has been dealt with.
async fn refuse_absent(letters: &Letters, which: &Which) -> Result<(), Failure> {
    let mut absent_ids = Vec::new();
    for id in &which.ids {
        let found = letters.count(&of(vec![*id])).await;
        if found.map_err(|error| failure(&error))? == 0 {
            absent_ids.push(*id);
        }
    }
    if absent_ids.is_empty() {
        return Ok(());
    }
    Err(absent(&absent_ids))
}

fn absent(ids: &[i64]) -> Failure {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    Failure::usage(format!(
        "no dead letter has the number {}; `dead-letter list` shows those that there are; nothing was done",
        ids.join(", ")
    ))
}

fn list(letters: &[StoredLetter], count: i64, as_json: bool) -> String {
    let mut text = String::new();
    if as_json {
        for letter in letters {
            let line = json!({
                "id": letter.id, "received_at": letter.received_at, "reason": letter.reason, "detail": letter.detail,
                "topic": letter.topic, "partition": letter.source.0, "offset": letter.source.1,
                "key": letter.key.as_deref().map(String::from_utf8_lossy), "bytes": letter.size,
            });
            let _ = writeln!(text, "{}", printable_json(&line.to_string()));
        }
        return text;
    }
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let _ = writeln!(
        text,
        "{:>8}  {:<27}  {:<15}  {:>7}  TOPIC[PARTITION]@OFFSET, DETAIL",
        "ID", "RECEIVED", "REASON", "BYTES"
    );
    for letter in letters {
        let detail: String = printable(&letter.detail).chars().take(120).collect();
        let _ = writeln!(
            text,
            "{:>8}  {:<27}  {:<15}  {:>7}  {}[{}]@{}, {detail}",
            letter.id,
            letter.received_at.to_string(),
            printable(&letter.reason),
            letter.size,
            printable(&letter.topic),
            letter.source.0,
            letter.source.1
        );
    }
    let more = count - letters.len() as i64;
    if more > 0 {
        let _ = writeln!(text, "… and {more} more (--limit)");
    }
    text
}

fn show(letter: &StoredLetter) -> String {
    let key = letter.key.as_deref().map_or_else(
        || "none".to_owned(),
        |key| printable(&String::from_utf8_lossy(key)),
    );
    let mut text = format!(
        "dead letter {}\n  received   {}\n  reason     {}\n  detail     {}\n  topic      {}\n  partition  {}\n  offset     {}\n  \
         key        {key}\n  payload    {} bytes\n",
        letter.id,
        letter.received_at,
        printable(&letter.reason),
        printable(&letter.detail),
        printable(&letter.topic),
        letter.source.0,
        letter.source.1,
        letter.size
    );
    match serde_json::from_slice::<Value>(&letter.payload) {
        Ok(value) => {
            // JSON escapes what is below 0x20; the rest is made printable here, line by line.
            for line in format!("{value:#}").lines() {
                let _ = writeln!(text, "    {}", printable(line));
            }
        }
        Err(_) => hex_dump(&letter.payload, &mut text),
    }
    text
}

/// As `hexdump -C` shows bytes.
fn hex_dump(bytes: &[u8], text: &mut String) {
    for (n, line) in bytes.chunks(16).enumerate() {
        let hex: String = line.iter().map(|byte| format!("{byte:02x} ")).collect();
        let shown: String = line
            .iter()
            .map(|byte| match byte {
                0x20..=0x7e => char::from(*byte),
                _ => '.',
            })
            .collect();
        let _ = writeln!(text, "    {:08x}  {hex:<48} |{shown}|", n * 16);
    }
}

fn told(replayed: &Replayed, dry_run: bool) -> String {
    let mut text = if dry_run {
        format!(
            "could be stored: {} checks, {} revisions of sites (nothing was changed)\n",
            replayed.rows, replayed.revisions
        )
    } else {
        format!(
            "stored: {} checks and {} revisions of sites; {} checks were there already\n",
            replayed.rows, replayed.revisions, replayed.duplicates
        )
    };
    if replayed.refused > 0 {
        let _ = writeln!(
            text,
            "refused by the database: {}, set aside anew with its reason",
            replayed.refused
        );
    }
    if replayed.stay_count > 0 {
        let _ = writeln!(
            text,
            "stay, since they still can't be stored: {}",
            replayed.stay_count
        );
    }
    for (id, why) in &replayed.stay {
        let _ = writeln!(text, "{id:>8}  {}", printable(why));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(payload: &[u8]) -> StoredLetter {
        StoredLetter {
            id: 7,
            topic: "t".to_owned(),
            source: (1, 2),
            reason: "malformed".to_owned(),
            detail: "bad \x1b[2J".to_owned(),
            key: Some(b"k\x07".to_vec()),
            payload: payload.to_vec(),
            size: payload.len() as i64,
            received_at: Slot::from_micros(0),
        }
    }

    #[test]
    fn a_payload_is_shown_whole_and_never_steers_the_terminal() {
        let json = show(&letter(
            "{\"a\": \"x\\u001b[2J\u{9b}y\", \"b\": [1]}".as_bytes(),
        ));
        assert!(json.contains("\"a\": \"x\\u001b[2J\\u{9b}y\""), "{json}");
        let bytes = show(&letter(b"\x1b[2J\xff{not json"));
        assert!(
            bytes.contains(
                "00000000  1b 5b 32 4a ff 7b 6e 6f 74 20 6a 73 6f 6e        |.[2J.{not json|"
            ),
            "{bytes}"
        );
        for text in [json, bytes] {
            assert!(
                text.chars().all(|c| c == '\n' || !c.is_control()),
                "{text:?}"
            );
            assert!(
                text.contains("bad \\u{1b}[2J") && text.contains("k\\u{7}"),
                "{text}"
            );
        }
    }
}
