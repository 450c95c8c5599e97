//! The statements of the audit. Each site's range is read through the primary key, so the cost is that of the rows in it.

/// How long after its longest possible check a slot is left alone, so that its row can come through Kafka.
macro_rules! grace {
    ($seconds:literal) => {
        concat!(
            "make_interval(secs => check_limit_us / 1e6 + ",
            $seconds,
            "::float8)"
        )
    };
}

/// Which sites are asked for.
macro_rules! asked {
    () => {
        "($3::text IS NULL OR site.name = $3 OR starts_with(site.name, $3 || '@')) AND ($4::text IS NULL OR location.name = $4)"
    };
}

/// For each revision in the range: how many slots were due, and what the rows are. $1 from, $2 to, $3 site, $4 location, $5
/// lateness in milliseconds, $6 grace in seconds. Those with a calendar are only listed.
pub(super) const COUNT: &str = concat!(
    "WITH span AS MATERIALIZED (
        SELECT s.*, site.name AS site, location.name AS location, interval_us * interval '1 microsecond' AS step,
               greatest(s.since, $1) AS lo, least(due_until, $2, now() - ",
    grace!("$6"),
    ") AS hi
          FROM due_span s JOIN site USING (site_id) JOIN location USING (location_id)
         WHERE s.since < $2 AND s.due_until > $1 AND ",
    asked!(),
    ")
     SELECT span.site_id, span.location_id, site, location, since, lo, hi, cron,
            CASE WHEN hi > first
                 THEN floor(extract(epoch FROM hi - interval '1 microsecond' - first) * 1000000 / interval_us)::int8 + 1
                 ELSE 0 END AS expected,
            rows.*
       FROM span
      CROSS JOIN LATERAL (
            SELECT CASE WHEN since >= lo THEN since
                        ELSE date_bin(step, lo - interval '1 microsecond', since) + step END AS first) AS f
      CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE hit AND fresh) AS stored,
                   count(*) FILTER (WHERE NOT fresh) AS duplicate,
                   count(*) FILTER (WHERE hit AND fresh AND error = 22) AS missed,
                   count(*) FILTER (WHERE hit AND fresh AND error IS DISTINCT FROM 22 AND lateness_ms > $5::int4) AS late,
                   count(*) FILTER (WHERE NOT hit) AS strays
              FROM (SELECT error, lateness_ms, date_bin(step, slot, since) = slot AS hit,
                           lag(slot) OVER (ORDER BY slot) IS DISTINCT FROM slot AS fresh
                      FROM check_result c
                     WHERE c.site_id = span.site_id AND c.location_id = span.location_id AND slot >= lo AND slot < hi
                       AND cron IS NULL) AS c
           ) AS rows
      WHERE hi > lo"
);

/// The same for one revision with a calendar: $1 site, $2 location, $3 from, $4 to, $5 its slots, $6 lateness.
pub(super) const COUNT_CALENDAR: &str = "
    SELECT count(*) FILTER (WHERE hit AND fresh) AS stored,
           count(*) FILTER (WHERE NOT fresh) AS duplicate,
           count(*) FILTER (WHERE hit AND fresh AND error = 22) AS missed,
           count(*) FILTER (WHERE hit AND fresh AND error IS DISTINCT FROM 22 AND lateness_ms > $6::int4) AS late,
           count(*) FILTER (WHERE NOT hit) AS strays
      FROM (SELECT error, lateness_ms, slot = ANY($5::timestamptz[]) AS hit,
                   lag(slot) OVER (ORDER BY slot) IS DISTINCT FROM slot AS fresh
              FROM check_result
             WHERE site_id = $1 AND location_id = $2 AND slot >= $3 AND slot < $4) AS c";

/// For revisions of which a slot has no row, why: $1 to $5 those with an interval (site, location, since, from, to), $6 to $9
/// the slots of those with a calendar (site, location, since, slot). $10 so many are listed.
///
/// A run is over when another one takes over: it announces a site that this one had not given up. Failing that, when a later
/// run of the same location begins after its last row. A site that the next run did not announce goes on with it if it has rows
/// there, as when its announcement was never accepted; else its slots from then on are `over`: not due. `producer_down` is what
/// a run left undone at its end: after the site's last row of that run, unless the check had long ended when others still had
/// rows.
pub(super) const MISSING: &str = "
    WITH RECURSIVE bad AS (
        SELECT * FROM unnest($1::int4[], $2::int4[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
                   AS b(site_id, location_id, since, lo, hi)
    ), slots AS (
        SELECT site_id, location_id, since, slot
          FROM bad JOIN due_span s USING (site_id, location_id, since)
         CROSS JOIN LATERAL (SELECT interval_us * interval '1 microsecond' AS step) AS with_step
         CROSS JOIN LATERAL generate_series(
                   CASE WHEN since >= lo THEN since ELSE date_bin(step, lo - interval '1 microsecond', since) + step END,
                   hi - interval '1 microsecond', step) AS slot
         UNION ALL
        SELECT * FROM unnest($6::int4[], $7::int4[], $8::timestamptz[], $9::timestamptz[])
    ), absent AS MATERIALIZED (
        SELECT s.*, r.run, r.until, least(r.check_limit_us, 86400000000) AS check_limit_us
          FROM slots s JOIN site_revision r USING (site_id, location_id, since)
         WHERE NOT EXISTS (SELECT FROM check_result c
                            WHERE c.site_id = s.site_id AND c.location_id = s.location_id AND c.slot = s.slot)
    ), begun AS MATERIALIZED (
        SELECT location_id, run, min(since) AS first FROM site_revision GROUP BY 1, 2
    ), followed AS (
        SELECT location_id, run, until, lead(run) OVER (PARTITION BY site_id, location_id ORDER BY since) AS next_run
          FROM site_revision
    ), takeover AS MATERIALIZED (
        SELECT DISTINCT ON (location_id, f.run) location_id, f.run, b.run AS next_run, b.first AS next_first
          FROM (SELECT DISTINCT location_id, run, next_run FROM followed WHERE until IS NULL AND next_run > run) AS f
          JOIN begun b USING (location_id)
         WHERE b.run = f.next_run
         ORDER BY location_id, f.run, b.first
    ), chain (location_id, told_by, reach, run, first) AS (
        SELECT location_id, run, max(slot), run, timestamptz '-infinity' FROM absent GROUP BY 1, 2
         UNION ALL
        SELECT location_id, told_by, reach, next_run, next_first FROM chain JOIN takeover USING (location_id, run)
         WHERE next_first <= reach
    ), period AS MATERIALIZED (
        SELECT location_id, told_by, run, first, next_first FROM chain LEFT JOIN takeover USING (location_id, run)
    ), placed AS MATERIALIZED (
        SELECT a.site_id, a.location_id, a.since, a.slot, a.until, a.check_limit_us, p.run, p.first,
               coalesce(p.next_first, 'infinity') AS before, p.run <> a.run AS carried
          FROM absent a JOIN period p ON p.location_id = a.location_id AND p.told_by = a.run
                                     AND a.slot >= p.first AND a.slot < coalesce(p.next_first, 'infinity')
    ), announced AS MATERIALIZED (
        SELECT s.site_id, s.location_id, s.run, max(c.slot) AS last
          FROM due_span s JOIN (SELECT DISTINCT location_id, run, before FROM placed) AS p USING (location_id, run)
         CROSS JOIN LATERAL (SELECT max(slot) AS slot FROM check_result c
                              WHERE c.site_id = s.site_id AND c.location_id = s.location_id
                                AND c.slot >= s.since AND c.slot < least(s.due_until, p.before)) AS c
         GROUP BY 1, 2, 3
    ), carried AS MATERIALIZED (
        SELECT site_id, location_id, p.run, max(c.slot) AS last
          FROM (SELECT DISTINCT site_id, location_id, since, run, first, before FROM placed WHERE carried) AS p
          JOIN due_span s USING (site_id, location_id, since)
         CROSS JOIN LATERAL (SELECT max(slot) AS slot FROM check_result c
                              WHERE c.site_id = s.site_id AND c.location_id = s.location_id
                                AND c.slot >= p.first AND c.slot < least(s.due_until, p.before)) AS c
         GROUP BY site_id, location_id, p.run
    ), run_end AS MATERIALIZED (
        SELECT r.location_id, r.run, r.last,
               coalesce((SELECT next_first FROM takeover t WHERE t.location_id = r.location_id AND t.run = r.run),
                        (SELECT min(later.first) FROM begun later
                          WHERE later.location_id = r.location_id AND later.run > r.run
                            AND later.first > coalesce(r.last, r.run))) AS next_first
          FROM (SELECT location_id, run, max(last) AS last FROM announced GROUP BY 1, 2) AS r
    ), judged AS (
        SELECT a.site_id, a.location_id, a.slot,
               CASE WHEN a.until IS NULL AND a.slot >= e.next_first THEN 'over'
                    -- The run has announced the site for later slots, or does not have it.
                    WHEN a.until IS NULL AND a.carried AND (n.run IS NOT NULL OR c.last IS NULL) THEN 'over'
                    WHEN a.slot < e.next_first
                     AND a.slot > coalesce(n.last, c.last, '-infinity')
                     AND a.slot + a.check_limit_us * interval '1 microsecond' >= coalesce(e.last, '-infinity') THEN 'producer_down'
                    ELSE 'missing' END AS why
          FROM placed a
          LEFT JOIN announced n USING (site_id, location_id, run)
          LEFT JOIN carried c USING (site_id, location_id, run)
          LEFT JOIN run_end e USING (location_id, run)
    )
    SELECT site_id, location_id,
           count(*) FILTER (WHERE why = 'missing') AS missing,
           count(*) FILTER (WHERE why = 'producer_down') AS producer_down,
           count(*) FILTER (WHERE why = 'over') AS over,
           (array_agg(slot ORDER BY slot) FILTER (WHERE why = 'missing'))[1:$10::int4] AS examples
      FROM judged GROUP BY 1, 2";

/// Rows that no revision expects: between revisions, and inside those that hold such rows ($5 to $9: site, location, since,
/// from, to), calendars' own slots left out ($10 to $12: site, location, slot). $13 grace, $14 so many are listed.
///
/// What an earlier revision that was not ended would expect is not held against a row: another producer may still run it.
pub(super) const UNSCHEDULED: &str = concat!(
    "WITH bounds AS (
        SELECT s.site_id, s.location_id, s.since, greatest(due_until, $1) AS lo,
               least(next_since, $2, now() - ",
    grace!("$13"),
    ") AS hi
          FROM due_span s WHERE due_until < next_since AND due_until < $2 AND next_since > $1
         UNION ALL
        SELECT * FROM unnest($5::int4[], $6::int4[], $7::timestamptz[], $8::timestamptz[], $9::timestamptz[])
    ), stray AS (
        SELECT b.site_id, b.location_id, b.since, c.slot
          FROM bounds b JOIN check_result c USING (site_id, location_id)
         WHERE c.slot >= b.lo AND c.slot < b.hi
           AND NOT EXISTS (SELECT FROM unnest($10::int4[], $11::int4[], $12::timestamptz[]) AS own(site_id, location_id, slot)
                            WHERE own.site_id = b.site_id AND own.location_id = b.location_id AND own.slot = c.slot)
    )
    SELECT site_id, location_id, site.name AS site, location.name AS location, count(*) AS unscheduled,
           (array_agg(stray.slot ORDER BY stray.slot))[1:$14::int4] AS examples
      FROM stray JOIN site USING (site_id) JOIN location USING (location_id)
     WHERE ",
    asked!(),
    "  AND NOT EXISTS (
            SELECT FROM site_revision r
             WHERE r.site_id = stray.site_id AND r.location_id = stray.location_id
               AND stray.slot >= r.since AND stray.slot < coalesce(r.until, 'infinity')
               AND CASE WHEN r.cron IS NULL
                        THEN date_bin(least(r.interval_us, 3155760000000000) * interval '1 microsecond', stray.slot, r.since) = stray.slot
                        ELSE r.since <> stray.since END)
     GROUP BY 1, 2, 3, 4"
);

/// Rows from before their site was first announced.
pub(super) const UNANNOUNCED: &str = concat!(
    "SELECT coalesce(sum(n), 0)::int8 AS unannounced
       FROM site CROSS JOIN location
       LEFT JOIN (SELECT site_id, location_id, min(since) AS first FROM site_revision GROUP BY 1, 2) AS r
            USING (site_id, location_id)
      CROSS JOIN LATERAL (
            SELECT count(*) AS n FROM check_result c
             WHERE c.site_id = site.site_id AND c.location_id = location.location_id
               AND c.slot >= $1 AND c.slot < least($2, coalesce(r.first, 'infinity'))) AS c
      WHERE ",
    asked!()
);

/// Breaks in topics by reason.
pub(super) const GAPS: &str = "SELECT reason, count(*) AS n FROM kafka_gap WHERE noticed_at >= $1 AND noticed_at < $2 GROUP BY 1";

/// Dead letters by reason.
pub(super) const LETTERS: &str = "SELECT reason, count(*) AS n FROM dead_letter WHERE received_at >= $1 AND received_at < $2 GROUP BY 1";

/// Results that were dropped beside another of their slot that says something else, of each site at each location, with the first one.
/// They are counted by the hour.
pub(super) const CONFLICTS: &str = concat!(
    "SELECT site, location, sum(number)::int8 AS n, (array_agg(slot ORDER BY slot))[1] AS slot,
            (array_agg(stored::text ORDER BY slot))[1] AS stored, (array_agg(refused::text ORDER BY slot))[1] AS refused
       FROM (SELECT site.name AS site, location.name AS location, c.*
               FROM check_conflict c JOIN site USING (site_id) JOIN location USING (location_id)
              WHERE hour > $1::timestamptz - interval '1 hour' AND hour < $2 AND ",
    asked!(),
    ") AS c
      GROUP BY site, location ORDER BY n DESC, site, location"
);
