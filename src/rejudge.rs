//! The command `rejudge`: which incidents other rules would have made of the history.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use serde_json::{Value, json};
use sitewatch_actors::{
    history::{self, Judgement, RejudgeQuestion, Rejudged},
    model::{Incident, printable, printable_json},
};
use sitewatch_config::{OtherRules, Sources};

use crate::{
    audit::failure, exit::Failure, output::print, range::RangeArguments, standalone::with_database,
    whose::WhoseArguments,
};

/// What `rejudge` is asked.
#[derive(Debug, Args)]
pub struct RejudgeArguments {
    /// The other rules: failure_threshold, success_threshold and flap_window, for all and under `groups` and `sites` by name. What it
    /// does not say stays as it was
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
    /// Which time
    #[command(flatten)]
    range: RangeArguments,
    /// Which sites
    #[command(flatten)]
    whose: WhoseArguments,
    /// As JSON, all of it
    #[arg(long)]
    json: bool,
}

/// Judges and prints.
pub(crate) fn rejudge(sources: &Sources, arguments: &RejudgeArguments) -> Result<(), Failure> {
    let (from, to) = arguments.range.range()?;
    let rules =
        OtherRules::load(&arguments.rules, &sources.working_dir).map_err(Failure::config)?;
    let question = RejudgeQuestion {
        from,
        to,
        whose: arguments.whose.whose(),
        rules,
    };
    let judged = with_database(sources, "rejudge", async |settings| {
        let judged = history::rejudge(&settings.postgres, &question).await;
        judged.map_err(|error| failure(&error))
    })?;
    if judged.from > from {
        let _ = writeln!(
            io::stderr(),
            "note: checks of before {} were dropped (postgres.retention.raw), so it begins there",
            judged.from
        );
    }
    let text = if arguments.json {
        machine(&question, &judged)
    } else {
        human(&question, &judged)
    };
    print(&text)
}

fn human(question: &RejudgeQuestion, judged: &Judgement) -> String {
    let sum = |of: fn(&Rejudged) -> usize| judged.sites.iter().map(of).sum::<usize>();
    let mut text = format!(
        "{} incidents are stored, the other rules make {}: slots from {} to before {}\n",
        sum(|it| it.stored.len()),
        sum(|it| it.other.len()),
        judged.from,
        question.to
    );
    let mut same = 0;
    for site in &judged.sites {
        let differences = site.differences();
        same += usize::from(differences.is_empty());
        if differences.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "{} ({}): {} stored, {} by the other rules",
            printable(&site.site),
            printable(&site.location),
            site.stored.len(),
            site.other.len()
        );
        for (stored, other) in differences {
            for (sign, incident) in [('-', stored), ('+', other)] {
                if let Some(incident) = incident {
                    let _ = writeln!(text, "  {sign} {}", shown(incident));
                }
            }
        }
    }
    if same > 0 {
        let _ = writeln!(text, "{same} sites with incidents: no difference");
    }
    text
}

fn shown(incident: &Incident) -> String {
    let flaps = match incident.flaps {
        0 => String::new(),
        flaps => format!(", closed in between {flaps} times"),
    };
    match incident.ended {
        Some(ended) => {
            let micros = ended.micros_since(incident.began).unsigned_abs();
            let lasted = humantime::format_duration(Duration::from_secs(micros / 1_000_000));
            format!("{} to {ended}, {lasted}{flaps}", incident.began)
        }
        None => format!("{}, open{flaps}", incident.began),
    }
}

fn machine(question: &RejudgeQuestion, judged: &Judgement) -> String {
    let incident = |it: &Incident| -> Value {
        json!({ "began": it.began, "opened": it.opened, "ended": it.ended, "closed": it.closed, "flaps": it.flaps })
    };
    let sites: Vec<_> = judged
        .sites
        .iter()
        .map(|site| {
            let all = |incidents: &[Incident]| incidents.iter().map(incident).collect::<Vec<_>>();
            json!({ "site": site.site, "location": site.location, "stored": all(&site.stored), "other": all(&site.other) })
        })
        .collect();
    let whole = json!({ "from": judged.from, "to": question.to, "sites": sites });
    printable_json(&format!("{whole:#}\n"))
}
