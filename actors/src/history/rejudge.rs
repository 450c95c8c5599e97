//! What other rules would have made of the history: judged by the judge that judges what comes in, and nothing is changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use futures_util::TryStreamExt;
use sitewatch_config::{IncidentOptions, OtherRules, PostgresSettings};
use tokio_postgres::{Client, types::ToSql};

use crate::{
    database::{
        AskError, ask,
        incidents::{self, Pair},
        numbers, refuse_unknown,
    },
    model::{Incident, Judge, Rules, Slot, Verdict, Whose},
};

/// What is asked.
#[derive(Clone, Debug)]
pub struct RejudgeQuestion {
    /// From then on.
    pub from: Slot,
    /// Until before then.
    pub to: Slot,
    /// Of which sites.
    pub whose: Whose,
    /// What is to be other.
    pub rules: OtherRules,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// From then on: as asked, or from where there are checks, if those of before were dropped (`postgres.retention.raw`).
    pub from: Slot,
    /// Each site at each location that has incidents.
    pub sites: Vec<Rejudged>,
}

/// A site at a location, with the incidents that lie at least in part in the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejudged {
    /// The site.
    pub site: String,
    /// Where it is checked from.
    pub location: String,
    /// Incidents as they are stored.
    pub stored: Vec<Incident>,
    /// Incidents as the other rules make them.
    pub other: Vec<Incident>,
}

/// Judges from so long before the range on, in microseconds, or from the beginning of an incident that is stored and went on then.
const BEFORE: i64 = 24 * Slot::HOUR;

/// Judges, site by site. Needs memory for the incidents only.
///
/// # Errors
/// What the database says, or that a site or group of the question or of the rules was never announced.
pub async fn rejudge(
    settings: &PostgresSettings,
    question: &RejudgeQuestion,
) -> Result<Judgement, AskError> {
    let client = ask(settings, &["incident", "incident_again"]).await?;
    client
        .batch_execute("SET jit = off; SET statement_timeout = 0")
        .await?;
    let (sites, groups) = question.rules.names();
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    let named = Whose {
        sites: owned(sites),
        groups: owned(groups),
        tags: Vec::new(),
    };
    refuse_unknown(&client, &named).await?;
    let sites = numbers(&client, &question.whose).await?;
    // Without checks other rules would make nothing of what is stored.
    let raw_since: SystemTime = client.query_one(RAW_SINCE, &[]).await?.get(0);
    let raw_since = Slot::from_system_time(raw_since);
    if raw_since >= question.to {
        return Err(AskError::Dropped(raw_since));
    }
    let question = &RejudgeQuestion {
        from: question.from.max(raw_since),
        ..question.clone()
    };
    // What had begun before the oldest check can't be judged whole: it is left out on both sides.
    let begins_with_history = question.from == raw_since;
    let is_compared = |it: &Incident| !begins_with_history || it.began >= question.from;
    let mut all = Vec::new();
    for row in client.query(PAIRS, &[&sites]).await? {
        let pair: Pair = (row.get(0), row.get(1));
        let (site, location): (String, String) = (row.get(2), row.get(3));
        let group: Option<String> = row.get(4);
        let group = group.as_deref();
        let mut other = judge(&client, question, pair, &site, group, begins_with_history).await?;
        let mut stored = stored(&client, question, pair).await?;
        other.retain(is_compared);
        stored.retain(is_compared);
        if !(other.is_empty() && stored.is_empty()) {
            all.push(Rejudged {
                site,
                location,
                stored,
                other,
            });
        }
    }
    Ok(Judgement {
        from: question.from,
        sites: all,
    })
}

async fn judge(
    client: &Client,
    question: &RejudgeQuestion,
    (site_id, location_id): Pair,
    site: &str,
    group: Option<&str>,
    begins_with_history: bool,
) -> Result<Vec<Incident>, AskError> {
    let pair = (site_id, location_id);
    let book = incidents::book(client, pair).await?;
    let (mut judge, from) = if begins_with_history {
        // An incident of before may go on.
        let before = incidents::judges(client, &[pair], Some(question.from)).await?;
        let judge = before.into_iter().next().map(|(_, seat)| seat.judge);
        (judge.unwrap_or_default(), question.from.to_system_time())
    } else {
        let before = Slot::from_micros(question.from.as_micros() - BEFORE).to_system_time();
        let parameters: [&(dyn ToSql + Sync); 3] = [&site_id, &location_id, &before];
        let began = client.query_one(BEGAN, &parameters).await?;
        (Judge::default(), began.get::<_, SystemTime>(0))
    };
    let to = question.to.to_system_time();
    let parameters: [&(dyn ToSql + Sync); 4] = [&site_id, &location_id, &from, &to];
    let checks = client.query_raw(CHECKS, parameters).await?;
    let mut checks = std::pin::pin!(checks);
    let mut found = BTreeMap::new();
    while let Some(row) = checks.try_next().await? {
        let slot = Slot::from_system_time(row.get::<_, SystemTime>(0));
        let rules = with(&question.rules, site, group, book.at(slot));
        if let Verdict::Changed(incident) = judge.hear(slot, incidents::outcome(row.get(1)), rules)
        {
            found.insert(incident.began, incident);
        }
    }
    let inside = |it: &Incident| it.ended.is_none_or(|ended| ended > question.from);
    Ok(found.into_values().filter(inside).collect())
}

/// The rules that were in force with what is to be other.
fn with(other: &OtherRules, site: &str, group: Option<&str>, base: Rules) -> Rules {
    let micros = u64::try_from(base.flap_window_us).unwrap_or_default();
    let base = IncidentOptions {
        failure_threshold: base.failure_threshold,
        success_threshold: base.success_threshold,
        flap_window: std::time::Duration::from_micros(micros),
    };
    let rules = other.of(site, group, base);
    Rules {
        failure_threshold: rules.failure_threshold,
        success_threshold: rules.success_threshold,
        flap_window_us: i64::try_from(rules.flap_window.as_micros()).unwrap_or(i64::MAX),
    }
}

async fn stored(
    client: &Client,
    question: &RejudgeQuestion,
    (site_id, location_id): Pair,
) -> Result<Vec<Incident>, AskError> {
    let (from, to) = (question.from.to_system_time(), question.to.to_system_time());
    let rows = client
        .query(STORED, &[&site_id, &location_id, &from, &to])
        .await?;
    // As they were at the end of the range, which is as far as the others are judged.
    let then = |incident: Incident| match incident.closed {
        Some(closed) if closed < question.to => incident,
        _ => Incident {
            ended: None,
            closed: None,
            ..incident
        },
    };
    let incidents = rows.iter().filter_map(incidents::incident);
    Ok(incidents.map(then).collect())
}

impl Rejudged {
    /// The incidents that only the one or only the other has, by their beginnings.
    pub fn differences(&self) -> Vec<(Option<&Incident>, Option<&Incident>)> {
        let beginnings: BTreeSet<_> = self
            .stored
            .iter()
            .chain(&self.other)
            .map(|it| it.began)
            .collect();
        let find = |among: &'_ [Incident], began| among.iter().position(|it| it.began == began);
        beginnings
            .into_iter()
            .map(|began| {
                let stored = find(&self.stored, began).map(|place| &self.stored[place]);
                let other = find(&self.other, began).map(|place| &self.other[place]);
                (stored, other)
            })
            .filter(|(stored, other)| {
                stored.map(|it| (it.began, it.ended)) != other.map(|it| (it.began, it.ended))
            })
            .collect()
    }
}

const RAW_SINCE: &str = "SELECT raw_since FROM rollup_state";

const PAIRS: &str = "
    SELECT site_id, location_id, s.name, l.name, s.group_name
      FROM site_location JOIN site s USING (site_id) JOIN location l USING (location_id)
     WHERE $1::int4[] IS NULL OR site_id = ANY ($1) ORDER BY s.name, l.name";

const BEGAN: &str = "
    SELECT least($3, min(began)) FROM incident
     WHERE site_id = $1 AND location_id = $2 AND began < $3::timestamptz AND coalesce(ended, 'infinity') > $3";

const CHECKS: &str = "
    SELECT slot, outcome FROM check_result
     WHERE site_id = $1 AND location_id = $2 AND slot >= $3 AND slot < $4 ORDER BY slot";

const STORED: &str = "
    SELECT * FROM incident
     WHERE site_id = $1 AND location_id = $2 AND began < $4 AND coalesce(ended, 'infinity') > $3 ORDER BY began";
