//! A message at a bound of its schema is stored, one beyond it is set aside, and neither makes anything fail that is asked of the tables
//! afterwards.

mod ask;

use std::collections::BTreeSet;

use crate::{
    bounds_of_messages::{self, Case},
    support::{World, message},
};

/// All cases of both kinds of message.
fn all() -> Vec<Case> {
    let slot = message("", 39_000)["slot"].as_str().unwrap().to_owned();
    let mut cases = bounds_of_messages::cases(
        bounds_of_messages::CHECK,
        &bounds_of_messages::check(&slot),
        &[],
    );
    let revision = bounds_of_messages::revision();
    cases.extend(bounds_of_messages::cases(
        bounds_of_messages::REVISION,
        &revision,
        &["cron"],
    ));
    let calendar = bounds_of_messages::calendar();
    let absent = ["interval_us", "phase_us", "until"];
    let calendars = bounds_of_messages::cases(bounds_of_messages::REVISION, &calendar, &absent);
    // The rest of their fields are those of the revisions before.
    cases.extend(
        calendars
            .into_iter()
            .filter(|it| it.name.starts_with("/cron ")),
    );
    cases
}

#[actix_rt::test]
async fn each_bound_is_a_row_what_is_beyond_a_dead_letter_and_nothing_fails_afterwards() {
    let world = World::new("bounds").await;
    world.create_topic(1).await;
    world.done(&["migrate"]);
    let cases = all();
    // Between any two of them a message that must not be harmed; one that no topic takes is a matter of the producer.
    let (mut payloads, mut tried) = (Vec::new(), Vec::new());
    for (n, case) in cases.iter().enumerate() {
        payloads.push(message("neighbour", n as i64).to_string().into_bytes());
        assert!(case.payload.len() < 1_000_000, "{}", case.name);
        tried.push((payloads.len() as i64, case));
        payloads.push(case.payload.clone());
    }
    let number = payloads.len() as i64;
    world.produce(payloads);
    let mut consumer = world.node("consumer", "postgres: { batch: { max_age: 50ms } }\n");
    let read = "SELECT coalesce(sum(next), 0)::int8 FROM kafka_offset";
    world.wait_for("all to be read", read, number).await;
    assert_eq!(consumer.stop(), Some(0), "{}", consumer.log());

    let neighbours = world.number("SELECT count(*) FROM checks WHERE site = 'neighbour'");
    assert_eq!(neighbours.await, cases.len() as i64);
    let letters = world
        .query("SELECT kafka_offset, reason, detail FROM dead_letter")
        .await;
    let set_aside: BTreeSet<i64> = letters.iter().map(|row| row.get(0)).collect();
    let names = "SELECT s.name FROM site s JOIN check_result USING (site_id) UNION SELECT s.name FROM site s JOIN site_revision USING (site_id)
                 UNION SELECT name FROM site_alias";
    let names = world.query(names).await;
    let stored: BTreeSet<String> = names.iter().map(|row| row.get(0)).collect();
    let mut wrong = Vec::new();
    for (offset, case) in &tried {
        let is_stored = case.site.as_str().is_some_and(|site| stored.contains(site));
        if is_stored != case.is_kept || set_aside.contains(offset) == case.is_kept {
            let letter = letters.iter().find(|row| row.get::<_, i64>(0) == *offset);
            let why = letter
                .map(|row| format!("{}: {}", row.get::<_, String>(1), row.get::<_, String>(2)));
            wrong.push(format!("{}: stored {is_stored}, letter {why:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // What the decoder lets through, the database takes.
    let refused = letters
        .iter()
        .filter(|row| row.get::<_, String>(1) == "refused");
    assert_eq!(refused.count(), 0);
    ask::everything(&world).await;
}

/// What a consumer of an earlier version let into the tables, which had fewer bounds than messages have now.
const BEFORE: &str = "
    INSERT INTO site (name, url, sla_target, sla_window, told_since) VALUES
        ('', '', 99.9, '290000 years', '2026-01-01'), (repeat('é', 512), 'u', 1e-300, '1 microsecond', '2026-01-01'),
        ('calendar', 'u', NULL, NULL, NULL), ('far', 'u', 99, '30 days', '2026-01-01');
    INSERT INTO location (name) VALUES ('');
    SELECT make_partition(t, date_trunc('month', now()), date_trunc('month', now()) + interval '1 month')
      FROM unnest('{check_result,check_detail}'::text[]) AS t;
    INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, status, outcome, error, ttfb_bucket)
    SELECT date_trunc('month', now()) + n * interval '1 second', 1, 1, CASE n % 3 WHEN 0 THEN 2147483647 WHEN 1 THEN 0 END,
           CASE n % 2 WHEN 0 THEN 2147483647 ELSE -2147483648 END, CASE n % 2 WHEN 0 THEN 0 ELSE 999 END, n % 4, n % 24, 994
      FROM generate_series(0, 99) AS n;
    INSERT INTO check_detail (slot, site_id, location_id, detail, facts)
    SELECT date_trunc('month', now()) + n * interval '1 second', 1, 1, '', facts
      FROM unnest('{\"{\\\"attempts\\\": 2147483648}\", \"{\\\"attempts\\\": 1e300}\", \"{\\\"attempts\\\": -1}\", \"{\\\"attempts\\\": 1.5}\",
            \"{\\\"attempts\\\": 1.0}\", \"{\\\"attempts\\\": \\\"x\\\"}\", \"{\\\"attempts\\\": null}\", \"{\\\"attempts\\\": [1]}\", \"{}\", \"[]\",
            \"{\\\"attempts\\\": 7}\"}'::jsonb[]) WITH ORDINALITY AS f (facts, n);
    INSERT INTO site_location (site_id, location_id) SELECT 1, 1 WHERE NOT EXISTS (SELECT FROM site_location);
    INSERT INTO site_revision (site_id, location_id, since, until, interval_us, phase_us, cron, check_limit_us, config_hash, run,
                               failure_threshold, success_threshold, flap_window_us)
    VALUES (1, 1, '2026-01-01', NULL, 9223372036854775807, 0, NULL, 9223372036854775807, '', '2026-01-01', 30, 30, 9223372036854775807),
           (2, 1, '4713-01-02 BC', '9999-12-31', 9223372036854775807, 9223372036854775806, NULL, 0, '', '4713-01-02 BC', 1, 1, 0),
           (3, 1, '2026-01-01', NULL, NULL, NULL, 'no calendar', 9223372036854775807, '', '2026-01-01', NULL, NULL, NULL),
           (3, 1, '2026-01-02', NULL, NULL, NULL, '0 0 29 2 * UTC', 0, '', '9999-12-30', NULL, NULL, NULL),
           (4, 1, '9999-12-30', NULL, 1000, 0, NULL, 0, '', '9999-12-30', NULL, NULL, NULL);
    INSERT INTO incident_again SELECT site_id, 1, '1970-01-01' FROM site ON CONFLICT DO NOTHING;
    INSERT INTO dead_letter (topic, partition, kafka_offset, reason, detail, payload) VALUES ('', 0, 9223372036854775807, '', '', '')";

#[actix_rt::test]
async fn what_earlier_versions_stored_breaks_no_view_no_function_and_no_command() {
    let world = World::new("bounds_before").await;
    world
        .db
        .batch_execute(include_str!("../../schema/version-9.sql"))
        .await
        .unwrap();
    world.db.batch_execute(BEFORE).await.unwrap();
    world.done(&["migrate"]);
    world.create_topic(1).await;
    ask::everything(&world).await;
    let attempts =
        "SELECT string_agg(attempts::text, ' ' ORDER BY slot) FROM checks WHERE detail IS NOT NULL";
    let attempts: String = world.query(attempts).await[0].get(0);
    assert_eq!(attempts, "2147483647 2147483647 0 2 1 1 1 1 1 1 7");
}
