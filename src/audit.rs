//! The command `audit`: which rows must exist, and which do.

use std::{
    fmt::Write as _,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::Args;
use serde_json::json;
use sitewatch_actors::{
    audit::{self, Audit, AuditQuestion, Conflict, Counts, SiteAudit},
    database::{AskError, SessionError},
    model::{Slot, printable, printable_json},
};
use sitewatch_config::Sources;

use crate::{exit::Failure, output::print, standalone::with_database, when::instant};

/// So many sites are shown unless all are asked for.
const SHOWN: usize = 20;

/// What `audit` is asked.
#[derive(Debug, Args)]
pub struct AuditArguments {
    /// From then on: an instant as 2026-01-31T12:00:00Z, or so long ago as -24h
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true, value_parser = instant)]
    since: Slot,
    /// Until then [default: now, less what may still be under way]
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true, value_parser = instant)]
    until: Option<Slot>,
    /// Only this site, with all its addresses
    #[arg(id = "audit-site", long = "site", value_name = "NAME")]
    site: Option<String>,
    /// Only from this location
    #[arg(long, value_name = "NAME")]
    location: Option<String>,
    /// More lateness than this is told
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    late: Duration,
    /// Leave slots alone until so long after their longest check, so that their rows can come through Kafka
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    grace: Duration,
    /// Show every site that is not right, not only the worst
    #[arg(long)]
    all: bool,
    /// List at most so many slots of a site that are missing, and that are unscheduled
    #[arg(long, value_name = "N", default_value_t = 5)]
    slots: u16,
    /// As JSON, all of it
    #[arg(long)]
    json: bool,
}

/// Compares and prints. The code is 0 if nothing is wrong, else 1.
pub(crate) fn audit(sources: &Sources, arguments: &AuditArguments) -> Result<ExitCode, Failure> {
    let until = arguments
        .until
        .unwrap_or_else(|| Slot::from_system_time(SystemTime::now()));
    if until <= arguments.since {
        return Err(Failure::usage(format!(
            "--since {} is not before --until {until}",
            arguments.since
        )));
    }
    let question = AuditQuestion {
        since: arguments.since,
        until,
        site: arguments.site.clone(),
        location: arguments.location.clone(),
        late: arguments.late,
        grace: arguments.grace,
        slots: arguments.slots,
    };
    let answer = with_database(sources, "audit", async |settings| {
        let answer = audit::audit(&settings.postgres, &question).await;
        answer.map_err(|error| failure(&error))
    })?;
    let total = total(&answer);
    let text = if arguments.json {
        machine(&question, &answer, &total)
    } else {
        human(&question, &answer, &total, arguments.all)
    };
    print(&text)?;
    Ok(ExitCode::from(u8::from(total.is_wrong())))
}

/// How a question to the database ends when there is no answer.
pub(crate) fn failure(error: &AskError) -> Failure {
    match error {
        AskError::Session(session) => no_session(session),
        AskError::NoTable(_) => Failure::config(error),
        AskError::Unknown(..) | AskError::Dropped(_) => Failure::usage(error),
    }
}

/// How a command ends that has got no session with the database.
pub(crate) fn no_session(error: &SessionError) -> Failure {
    let told = format!("PostgreSQL: {error}");
    if error.needs_a_person() {
        Failure::config(told)
    } else {
        Failure::unavailable(told)
    }
}

fn total(answer: &Audit) -> Counts {
    let mut total = Counts::default();
    for site in &answer.sites {
        total.add(&site.counts);
    }
    total
}

fn pairs(counts: &Counts) -> [(&'static str, u64); 8] {
    [
        ("expected", counts.expected),
        ("stored", counts.stored),
        ("missed", counts.missed),
        ("late", counts.late),
        ("producer_down", counts.producer_down),
        ("missing", counts.missing),
        ("duplicate", counts.duplicate),
        ("unscheduled", counts.unscheduled),
    ]
}

fn object(counts: &Counts) -> serde_json::Map<String, serde_json::Value> {
    pairs(counts)
        .into_iter()
        .map(|(name, number)| (name.to_owned(), number.into()))
        .collect()
}

fn machine(question: &AuditQuestion, answer: &Audit, total: &Counts) -> String {
    let site = |site: &SiteAudit| {
        let mut object = object(&site.counts);
        object.insert("site".to_owned(), site.site.as_str().into());
        object.insert("location".to_owned(), site.location.as_str().into());
        object.insert("missing_slots".to_owned(), json!(site.missing));
        object.insert("unscheduled_slots".to_owned(), json!(site.unscheduled));
        serde_json::Value::Object(object)
    };
    let sites: Vec<_> = answer.sites.iter().map(site).collect();
    let all = json!({
        "since": question.since, "until": question.until, "complete": !total.is_wrong(), "total": object(total), "sites": sites,
        "conflicts": answer.conflicts.iter().map(conflict).collect::<Vec<_>>(),
        "unannounced": answer.unannounced, "unreadable_calendars": answer.unreadable, "kafka_gaps": answer.gaps,
        "dead_letters": answer.dead_letters,
    });
    printable_json(&format!("{all:#}\n"))
}

fn conflict(conflict: &Conflict) -> serde_json::Value {
    // Made by the database out of words and numbers.
    let said = |text| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    json!({
        "site": conflict.site, "location": conflict.location, "results": conflict.number, "slot": conflict.slot,
        "stored": said(&conflict.stored), "dropped": said(&conflict.refused),
    })
}

fn human(question: &AuditQuestion, answer: &Audit, total: &Counts, all: bool) -> String {
    let verdict = match (total.is_wrong(), total.expected) {
        (true, _) => "NOT COMPLETE",
        (false, 0) => "nothing was due",
        (false, _) => "complete",
    };
    let mut text = format!(
        "{verdict}: {} sites, slots from {} to before {}\n",
        answer.sites.len(),
        question.since,
        question.until
    );
    // Writing into a String can't fail.
    let late = humantime::format_duration(question.late);
    let explained = [
        ("expected", "slots that were due".to_owned()),
        ("stored", "have a row".to_owned()),
        (
            "missed",
            "of these: the producer says that it did not check".to_owned(),
        ),
        ("late", format!("of these: began more than {late} late")),
        (
            "producer_down",
            "no row: the producer was not running".to_owned(),
        ),
        ("missing", "no row, and nothing accounts for it".to_owned()),
        (
            "duplicate",
            "rows beside another of the same slot".to_owned(),
        ),
        (
            "unscheduled",
            "rows of slots that nobody announced".to_owned(),
        ),
    ];
    for ((name, number), (_, meaning)) in pairs(total).into_iter().zip(explained) {
        let _ = writeln!(text, "  {name:<14} {number:>12}  {meaning}");
    }
    facts(&mut text, answer);
    table(&mut text, answer, all);
    text
}

fn facts(text: &mut String, answer: &Audit) {
    if answer.unannounced > 0 {
        let _ = writeln!(
            text,
            "  not audited: {} rows from before their site was first announced",
            answer.unannounced
        );
    }
    for calendar in &answer.unreadable {
        let _ = writeln!(text, "  not audited: the calendar {}", printable(calendar));
    }
    for conflict in answer.conflicts.iter().take(SHOWN) {
        let _ = writeln!(
            text,
            "  {} results dropped beside others of their slots that say something else: {} @ {}, first {}: stored {}, dropped {}",
            conflict.number,
            printable(&conflict.site),
            printable(&conflict.location),
            conflict.slot,
            printable(&conflict.stored),
            printable(&conflict.refused)
        );
    }
    let counts = [
        ("breaks in the topic", &answer.gaps),
        ("dead letters", &answer.dead_letters),
    ];
    for (what, by_reason) in counts {
        for (reason, number) in by_reason {
            let _ = writeln!(
                text,
                "  {what} in this time: {number} ({})",
                printable(reason)
            );
        }
    }
}

fn table(text: &mut String, answer: &Audit, all: bool) {
    let severity = |counts: &Counts| {
        (
            counts.missing + counts.duplicate + counts.unscheduled,
            counts.producer_down,
            counts.missed,
            counts.late,
        )
    };
    let mut bad: Vec<_> = answer
        .sites
        .iter()
        .filter(|site| severity(&site.counts) > (0, 0, 0, 0))
        .collect();
    bad.sort_by_key(|site| std::cmp::Reverse(severity(&site.counts)));
    if bad.is_empty() {
        return;
    }
    let shown = if all { bad.len() } else { SHOWN };
    let _ = writeln!(
        text,
        "\n{:>9} {:>9} {:>8} {:>8} {:>9} {:>11} {:>9}  SITE @ LOCATION",
        "MISSING", "DOWN", "MISSED", "LATE", "DUPLICATE", "UNSCHEDULED", "EXPECTED"
    );
    for site in bad.iter().take(shown) {
        let counts = &site.counts;
        let _ = writeln!(
            text,
            "{:>9} {:>9} {:>8} {:>8} {:>9} {:>11} {:>9}  {} @ {}",
            counts.missing,
            counts.producer_down,
            counts.missed,
            counts.late,
            counts.duplicate,
            counts.unscheduled,
            counts.expected,
            printable(&site.site),
            printable(&site.location)
        );
        let examples = [
            ("missing", &site.missing, counts.missing),
            ("unscheduled", &site.unscheduled, counts.unscheduled),
        ];
        for (what, slots, number) in examples {
            if !slots.is_empty() {
                let shown: Vec<_> = slots.iter().map(ToString::to_string).collect();
                let more = if number > slots.len() as u64 {
                    " …"
                } else {
                    ""
                };
                let _ = writeln!(text, "{:>9} {what}: {}{more}", "", shown.join(", "));
            }
        }
    }
    if bad.len() > shown {
        let _ = writeln!(text, "… and {} more (--all)", bad.len() - shown);
    }
}
