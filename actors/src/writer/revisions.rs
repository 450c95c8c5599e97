//! Stores which slots of sites are due.

use std::{collections::BTreeMap, time::SystemTime};

use tokio_postgres::{Error, Transaction};

use super::{origins::Origins, seam::ToldRevision};
use crate::model::{Due, Rules, Slot};

/// Adds revisions and ends that are not there yet.
pub(super) async fn upsert(
    transaction: &Transaction<'_>,
    told: &[ToldRevision<'_>],
    origins: &Origins,
) -> Result<(), Error> {
    let time = |slot: Slot| -> SystemTime { slot.to_system_time() };
    // `learn` has run for the batch: there is a number.
    let ids = |told: &ToldRevision<'_>| origins.ids(&told.revision.origin).unwrap_or_default();
    let (sites, locations): (Vec<i32>, Vec<i32>) = told.iter().map(ids).unzip();
    let since: Vec<_> = told.iter().map(|it| time(it.revision.since)).collect();
    let until: Vec<_> = told.iter().map(|it| it.until.map(time)).collect();
    let (mut intervals, mut phases, mut crons) = (Vec::new(), Vec::new(), Vec::new());
    for told in told {
        let (interval, phase, cron) = match &told.revision.due {
            Due::Every {
                interval_us,
                phase_us,
            } => (Some(*interval_us), Some(*phase_us), None),
            Due::Calendar { cron } => (None, None, Some(cron.as_str())),
        };
        intervals.push(interval);
        phases.push(phase);
        crons.push(cron);
    }
    let limits: Vec<_> = told.iter().map(|it| it.revision.check_limit_us).collect();
    let hashes: Vec<_> = told.iter().map(|it| &*it.revision.config_hash).collect();
    let labels: Vec<_> = told
        .iter()
        .map(|it| it.revision.labels.as_deref())
        .collect();
    let runs: Vec<_> = told.iter().map(|it| time(it.revision.run)).collect();
    let rules: Vec<_> = told.iter().map(|it| it.revision.rules).collect();
    let threshold = |of: fn(Rules) -> u8| -> Vec<Option<i16>> {
        rules
            .iter()
            .map(|rules| rules.map(|it| of(it).into()))
            .collect()
    };
    let failures = threshold(|rules| rules.failure_threshold);
    let successes = threshold(|rules| rules.success_threshold);
    let windows: Vec<_> = rules
        .iter()
        .map(|it| it.map(|it| it.flap_window_us))
        .collect();
    transaction
        .execute(RETRACT, &[&sites, &locations, &since])
        .await?;
    transaction
        .execute(
            "INSERT INTO site_revision AS stored (site_id, location_id, since, until, interval_us, phase_us, cron, check_limit_us,
                    config_hash, labels, run, failure_threshold, success_threshold, flap_window_us)
             -- Two names may be those of one site, which has been renamed: its revision is told once all the same.
             SELECT DISTINCT ON (site_id, location_id, since)
                    site_id, location_id, since, until, interval_us, phase_us, cron, check_limit_us, config_hash, labels::jsonb, run,
                    failure_threshold, success_threshold, flap_window_us
               FROM unnest($1::int4[], $2::int4[], $3::timestamptz[], $4::timestamptz[], $5::int8[], $6::int8[], $7::text[],
                           $8::int8[], $9::text[], $10::text[], $11::timestamptz[], $12::int2[], $13::int2[], $14::int8[])
                 AS told(site_id, location_id, since, until, interval_us, phase_us, cron, check_limit_us, config_hash, labels, run,
                         failure_threshold, success_threshold, flap_window_us)
              ORDER BY site_id, location_id, since, until, failure_threshold
             ON CONFLICT (site_id, location_id, since) DO UPDATE
                SET until = coalesce(stored.until, excluded.until),
                    failure_threshold = coalesce(stored.failure_threshold, excluded.failure_threshold),
                    success_threshold = coalesce(stored.success_threshold, excluded.success_threshold),
                    flap_window_us = coalesce(stored.flap_window_us, excluded.flap_window_us)
              WHERE stored.until IS NULL AND excluded.until IS NOT NULL
                 OR stored.failure_threshold IS NULL AND excluded.failure_threshold IS NOT NULL",
            &[
                &sites, &locations, &since, &until, &intervals, &phases, &crons, &limits, &hashes, &labels, &runs,
                &failures, &successes, &windows,
            ],
        )
        .await?;
    // What was announced last counts, whoever announces it. Earlier programs say nothing of this.
    let speaks = |it: &&ToldRevision<'_>| it.revision.rules.is_some();
    let told: BTreeMap<i32, &ToldRevision<'_>> = {
        let mut told: Vec<_> = told.iter().filter(speaks).collect();
        told.sort_by_key(|it| it.revision.since);
        told.into_iter().map(|it| (ids(it).0, it)).collect()
    };
    let sites: Vec<i32> = told.keys().copied().collect();
    let since: Vec<_> = told.values().map(|it| time(it.revision.since)).collect();
    let abouts: Vec<_> = told
        .values()
        .map(|it| serde_json::to_string(&it.revision.about).unwrap_or_default())
        .collect();
    transaction
        .execute(ABOUT, &[&sites, &since, &abouts])
        .await
        .map(drop)
}

/// What an earlier life of a producer has announced for a time that has not come yet, because its clock was ahead or its interval is long,
/// is void when a new announcement begins before it. A site announces at most one interval ahead: what is told again changes nothing.
const RETRACT: &str = "
    UPDATE site_revision AS ahead SET until = ahead.since
      FROM unnest($1::int4[], $2::int4[], $3::timestamptz[]) AS told (site_id, location_id, since)
     WHERE ahead.site_id = told.site_id AND ahead.location_id = told.location_id
       AND ahead.since > told.since AND ahead.since > now() AND ahead.until IS DISTINCT FROM ahead.since
       AND NOT EXISTS (SELECT FROM site_revision AS known WHERE known.site_id = told.site_id AND known.location_id = told.location_id
                          AND known.since = told.since)";

/// What the announcements `$3` of slots from `$2` on say about the sites `$1`, where that is new.
const ABOUT: &str = "
    UPDATE site SET group_name = told.group_name, tags = told.tags, sla_target = told.sla_target, sla_window = told.sla_window,
           told_since = told.since
      FROM (SELECT site_id, since, about ->> 'group' AS group_name,
                   ARRAY(SELECT jsonb_array_elements_text(about -> 'tags')) AS tags,
                   (about ->> 'sla_target')::float8 AS sla_target,
                   justify_hours((about ->> 'sla_window_us')::int8 * interval '1 microsecond') AS sla_window
              FROM unnest($1::int4[], $2::timestamptz[], $3::text[]) AS told (site_id, since, json)
             CROSS JOIN LATERAL (SELECT json::jsonb AS about) AS about) AS told
     WHERE site.site_id = told.site_id AND (site.told_since IS NULL OR site.told_since <= told.since OR site.told_since > now()) -- by a clock that was ahead
       AND (site.group_name, site.tags, site.sla_target, site.sla_window, site.told_since)
           IS DISTINCT FROM (told.group_name, told.tags, told.sla_target, told.sla_window, told.since)";
