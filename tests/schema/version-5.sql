-- All tables of sitewatch-node.
--
-- The consumer applies this file under an advisory lock when it connects, and so does `sitewatch-node migrate`. It may be
-- run any number of times. Times are UTC in the database's own type; durations carry their unit in the name.

-- A program that knows an older version works on with a newer one, if usable_from says that it can: so consumers of two versions
-- can run beside each other while one after the other is replaced. What an older one needs is taken away a version later.
CREATE TABLE IF NOT EXISTS schema_version (
    version     int4 PRIMARY KEY,
    applied_at  timestamptz NOT NULL DEFAULT now(),
    usable_from int4                                -- programs that know this version can work with it
);
ALTER TABLE schema_version ADD COLUMN IF NOT EXISTS usable_from int4;

-- What can be the outcome of a check, and what can be wrong with one. The numbers never change their meaning.
CREATE TABLE IF NOT EXISTS outcome (
    outcome_id int2 PRIMARY KEY,
    name       text NOT NULL UNIQUE
);
INSERT INTO outcome VALUES (0, 'up'), (1, 'degraded'), (2, 'down'), (3, 'unknown') ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS error_kind (
    error_id int2 PRIMARY KEY,
    name     text NOT NULL UNIQUE
);
INSERT INTO error_kind VALUES
    (1, 'dns_error'),
    (2, 'dns_timeout'),
    (3, 'connect_refused'),
    (4, 'connect_timeout'),
    (5, 'connection_reset'),
    (6, 'tls_error'),
    (7, 'cert_expired'),
    (8, 'cert_invalid'),
    (9, 'cert_expiring'),
    (10, 'send_error'),
    (11, 'ttfb_timeout'),
    (12, 'body_timeout'),
    (13, 'body_too_large'),
    (14, 'protocol_error'),
    (15, 'redirect_error'),
    (16, 'blocked_address'),
    (17, 'status_mismatch'),
    (18, 'body_mismatch'),
    (19, 'body_forbidden_match'),
    (20, 'header_mismatch'),
    (21, 'too_slow'),
    (22, 'missed'),
    (23, 'internal_error')
ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS site (
    site_id    int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    url        text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS location (
    location_id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL UNIQUE
);

-- One row a check; (site, location, slot) is its identity, whatever was retried or sent twice. Narrow on purpose: 60 bytes for
-- a check that is up, which has no nulls (error is 0 then; before version 5 it was null). No foreign keys: they would cost a look-up a row, and the consumer
-- writes the dimensions first. No default partition: it would block new partitions and DETACH CONCURRENTLY.
CREATE TABLE IF NOT EXISTS check_result (
    slot        timestamptz NOT NULL,
    site_id     int4 NOT NULL,
    location_id int4 NOT NULL,
    total_us    int4,
    lateness_ms int4 NOT NULL,
    status      int2,
    outcome     int2 NOT NULL,
    error       int2,
    ttfb_bucket int2, -- time to the first byte of the answer: hist_value(ttfb_bucket) is it in microseconds, to 2 %
    PRIMARY KEY (site_id, location_id, slot)
) PARTITION BY RANGE (slot);
-- Version 5.
ALTER TABLE check_result ADD COLUMN IF NOT EXISTS ttfb_bucket int2;

-- What was wrong, in words, or what had failed before a check that is up: rare, so kept apart. facts: what else the message
-- says about it (reached, attempts, failures, failed_attempts, refused, final_url, hops). capture: what the site answered,
-- for sites with capture_bytes.
CREATE TABLE IF NOT EXISTS check_detail (
    slot        timestamptz NOT NULL,
    site_id     int4 NOT NULL,
    location_id int4 NOT NULL,
    detail      text NOT NULL,
    facts       jsonb,
    capture     jsonb,
    PRIMARY KEY (site_id, location_id, slot)
) PARTITION BY RANGE (slot);
-- Version 1 did not have these.
ALTER TABLE check_detail ADD COLUMN IF NOT EXISTS facts jsonb, ADD COLUMN IF NOT EXISTS capture jsonb;

-- The next offset to store of each partition: written in the transaction that stores the rows before it, so it is the
-- truth. The group's committed offset in Kafka is only a hint.
CREATE TABLE IF NOT EXISTS kafka_offset (
    topic      text NOT NULL,
    partition  int4 NOT NULL,
    next       int8 NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);

-- Breaks in a topic's offsets. reason: 'recreated' (the topic ends before the stored offset: it was deleted and made
-- again), 'retention' (it begins after it: messages expired unread), 'absent' (Kafka skipped offsets, as compaction does).
CREATE TABLE IF NOT EXISTS kafka_gap (
    gap_id      int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic       text NOT NULL,
    partition   int4 NOT NULL,
    reason      text NOT NULL,
    from_offset int8 NOT NULL,
    to_offset   int8 NOT NULL,
    noticed_at  timestamptz NOT NULL DEFAULT now()
);

-- Messages that could not be stored, as they came, with the reason: see `sitewatch-node dead-letter`.
CREATE TABLE IF NOT EXISTS dead_letter (
    dead_letter_id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic          text NOT NULL,
    partition      int4 NOT NULL,
    kafka_offset   int8 NOT NULL,
    reason         text NOT NULL,
    detail         text NOT NULL,
    key            bytea,
    payload        bytea NOT NULL,
    received_at    timestamptz NOT NULL DEFAULT now()
);

-- Makes a partition of one of the tables that have some, for slots from from_slot up to and without to_slot, and gives its
-- name. Made apart and then attached: unlike CREATE … PARTITION OF, that takes no ACCESS EXCLUSIVE lock on the parent, so
-- writers and readers go on. Only a table's owner may attach to it: so this function has its owner's rights, and a consumer
-- that may call it needs no more of its own (scripts/roles.sql). A name that a detached partition still has is left to it.
CREATE OR REPLACE FUNCTION make_partition(parent text, from_slot timestamptz, to_slot timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET timezone = 'UTC' SET datestyle = 'ISO' AS $function$
DECLARE
    stem    text := parent || '_' || to_char(from_slot, 'YYYYMMDDHH24');
    made    text := stem;
    attempt int4 := 1;
BEGIN
    IF parent IS NULL OR parent NOT IN ('check_result', 'check_detail', 'rollup_hour', 'rollup_day') THEN
        RAISE EXCEPTION 'make_partition: % is not a table that it knows', parent USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF (isfinite(from_slot) AND isfinite(to_slot) AND from_slot < to_slot) IS NOT TRUE THEN
        RAISE EXCEPTION 'make_partition: no slots from % to %', from_slot, to_slot USING ERRCODE = 'invalid_parameter_value';
    END IF;
    WHILE to_regclass(quote_ident(made)) IS NOT NULL LOOP
        attempt := attempt + 1;
        made := stem || '_' || attempt;
    END LOOP;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)', made, parent);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, made, from_slot, to_slot);
    RETURN made;
END
$function$;
-- Names in it mean those beside the tables, whatever the caller's search_path: a temporary table can't stand in for one.
DO $block$
BEGIN
    EXECUTE format('ALTER FUNCTION make_partition(text, timestamptz, timestamptz) SET search_path = %I, pg_temp',
        (SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'check_result'::regclass));
END
$block$;
REVOKE ALL ON FUNCTION make_partition(text, timestamptz, timestamptz) FROM PUBLIC;

-- ---- Rollups (version 5) ----
-- A histogram of times is one number: eight decimal digits a bucket, the count of bucket b at the power 10^(8b). So sum() merges
-- histograms, in one pass and inside the server, and nothing but PostgreSQL itself is needed. Bounds of buckets grow by a factor
-- of e^0.04, so a value is known to 2 % (DDSketch: Masson, Rim, Lee, 2019). It counts up to 99,999,998 values.

-- The bucket of a time in microseconds: 0 up to 100 µs, then one for each 4 %.
CREATE OR REPLACE FUNCTION hist_bucket(us int8) RETURNS int4 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN us <= 100 THEN 0 ELSE ceil(ln(us / 100.0::float8) / 0.04)::int4 END $$;

-- The time that stands for a bucket, in microseconds.
CREATE OR REPLACE FUNCTION hist_value(bucket int4) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN bucket = 0 THEN 100 ELSE 200 * exp(0.04 * bucket) / (1 + exp(0.04)) END $$;

-- A histogram of one value, by its bucket.
CREATE OR REPLACE FUNCTION hist_of(bucket int4) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT ('1e' || (8 * bucket)::text)::numeric $$; -- with the cast all of it is immutable, so that it is inlined

-- How many values there are in a histogram, from a bucket on: its groups of eight digits are summed by casting out 99,999,999s.
CREATE OR REPLACE FUNCTION hist_count(hist numeric, from_bucket int4 DEFAULT 0) RETURNS int8
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT mod(trunc(hist, -8 * from_bucket), 99999999)::int8 $$;

-- The time in milliseconds that a part p (0 to 1) of the values does not exceed, to 2 %; null of an empty histogram. longest_us and
-- shortest_us, where they are known, bound the answer and the search.
CREATE OR REPLACE FUNCTION hist_percentile(hist numeric, p float8, longest_us int8 DEFAULT 4000000000, shortest_us int8 DEFAULT 0)
RETURNS float8 LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $function$
DECLARE
    base   int4 := hist_bucket(shortest_us);
    above  numeric;
    number numeric;
    rest   numeric;
    bottom int4 := 0;
    top    int4 := hist_bucket(longest_us) - base;
    middle int4;
BEGIN
    IF hist IS NULL OR hist = 0 THEN
        RETURN NULL;
    END IF;
    -- Without the empty buckets at its lower end: the shorter the number, the quicker is what follows.
    above := div(hist, hist_of(base));
    number := mod(above, 99999999);
    -- The highest bucket above which, itself included, are at least so many values.
    rest := number + 1 - greatest(ceil(p::numeric * number), 1);
    WHILE bottom < top LOOP
        middle := (bottom + top + 1) / 2;
        IF mod(trunc(above, -8 * middle), 99999999) >= rest THEN
            bottom := middle;
        ELSE
            top := middle - 1;
        END IF;
    END LOOP;
    RETURN least(hist_value(base + bottom), longest_us) / 1000;
END
$function$;

-- Each site at each location by hour and by day (UTC). Times are those of checks that are up or degraded: how long a failure took
-- says nothing of the site's speed. A row is computed from check_result when its hour or day is over, and again whenever rows came
-- in late.
CREATE TABLE IF NOT EXISTS rollup_hour (
    hour         timestamptz NOT NULL,
    site_id      int4 NOT NULL,
    location_id  int4 NOT NULL,
    up           int4 NOT NULL, -- checks by outcome
    degraded     int4 NOT NULL,
    down         int4 NOT NULL,
    unknown      int4 NOT NULL,
    total_min_us int4,
    total_max_us int4,
    total_sum_us int8,
    total_hist   numeric,       -- of total_us; see hist_percentile
    ttfb_hist    numeric,       -- of the time to the first byte
    PRIMARY KEY (site_id, location_id, hour)
) PARTITION BY RANGE (hour);

CREATE TABLE IF NOT EXISTS rollup_day (
    day          timestamptz NOT NULL,
    site_id      int4 NOT NULL,
    location_id  int4 NOT NULL,
    up           int4 NOT NULL,
    degraded     int4 NOT NULL,
    down         int4 NOT NULL,
    unknown      int4 NOT NULL,
    total_min_us int4,
    total_max_us int4,
    total_sum_us int8,
    total_hist   numeric,
    ttfb_hist    numeric,
    PRIMARY KEY (site_id, location_id, day)
) PARTITION BY RANGE (day);

-- Which sites have been checked from which locations. With it the key of check_result finds all checks of an hour; an index on slot,
-- even a BRIN, would cost each row a tenth more.
CREATE TABLE IF NOT EXISTS site_location (
    site_id     int4 NOT NULL,
    location_id int4 NOT NULL,
    PRIMARY KEY (site_id, location_id)
);
-- Of rows that are older than this table.
INSERT INTO site_location SELECT DISTINCT site_id, location_id FROM check_result
 WHERE NOT EXISTS (SELECT FROM site_location) ON CONFLICT DO NOTHING;

-- Up to which hour rollups are made. A writer reads it with a lock, and notes in rollup_dirty what it adds before it; moving it on
-- waits for the writers that have read it. So a row is either there when its hour is computed, or noted.
CREATE TABLE IF NOT EXISTS rollup_state (
    one          bool PRIMARY KEY DEFAULT true CHECK (one),
    rolled_until timestamptz NOT NULL DEFAULT '1970-01-01 00:00+00',
    raw_since    timestamptz NOT NULL DEFAULT '1970-01-01 00:00+00', -- checks before are dropped, or about to be
    hours_since  timestamptz NOT NULL DEFAULT '1970-01-01 00:00+00'  -- the same of rollup_hour
);
INSERT INTO rollup_state DEFAULT VALUES ON CONFLICT DO NOTHING;

-- What is to be computed, again or for the first time. Written in the transaction that adds the rows, deleted in the one that
-- computes. The rollups of an hour without a row here are what check_result says.
CREATE TABLE IF NOT EXISTS rollup_dirty (
    period      text NOT NULL,        -- 'hour' or 'day'
    start       timestamptz NOT NULL,
    location_id int4,                 -- null: all
    site_ids    int4[],               -- null: all
    noted_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS rollup_dirty_start ON rollup_dirty (period, start);

-- What there is from one instant to before another, of each site at each location, or of one site: from rollups as far as they reach
-- and are right, else from the checks themselves. So the answer is the same as of the checks, whatever comes late; where these are dropped,
-- hours are the finest that is known. total_hist and ttfb_hist: see hist_percentile.
--
-- The statement is made with the bounds in it, so that the planner knows which partitions to look into; compiling it (jit) would take
-- seconds. Hours and checks are looked up site by site, by their keys.
CREATE OR REPLACE FUNCTION site_stats(from_time timestamptz, to_time timestamptz, only_site int4 DEFAULT NULL)
RETURNS TABLE (site_id int4, location_id int4, up int8, degraded int8, down int8, unknown int8, total_min_us int4, total_max_us int4,
               total_sum_us numeric, total_hist numeric, ttfb_hist numeric)
LANGUAGE plpgsql STABLE ROWS 1000 SET jit = off AS $function$
DECLARE
    epoch      timestamptz := '2000-01-01 00:00+00';
    instant    interval := '1 microsecond';
    h0         timestamptz; -- whole hours whose rollups are made: from h0 to before h1
    h1         timestamptz;
    d0         timestamptz; -- whole days: from d0 to before d1
    d1         timestamptz;
    dirty      timestamptz[]; -- hours whose rollups are not right now
    dirty_days timestamptz[];
    parts      text[];
    day_part   text := 'SELECT r.* FROM rollup_day r WHERE day >= %L AND day < %L AND day <> ALL (%L::timestamptz[]) AND %s';
    hour_part  text := 'SELECT r.* FROM site_location p CROSS JOIN LATERAL (SELECT * FROM rollup_hour r WHERE r.site_id = p.site_id
        AND r.location_id = p.location_id AND hour >= %L AND hour < %L AND hour <> ALL (%L::timestamptz[]) OFFSET 0) r WHERE %s';
    check_part text := 'SELECT slot, c.site_id, c.location_id, (outcome = 0)::int4, (outcome = 1)::int4, (outcome = 2)::int4,
        (outcome = 3)::int4, total_us, total_us, total_us, hist_of(hist_bucket(total_us)), hist_of(ttfb_bucket)
        FROM site_location p CROSS JOIN LATERAL (SELECT slot, c.site_id, c.location_id, outcome,
        CASE WHEN outcome < 2 THEN total_us END AS total_us, CASE WHEN outcome < 2 THEN ttfb_bucket END AS ttfb_bucket
        FROM check_result c WHERE c.site_id = p.site_id AND c.location_id = p.location_id AND slot >= %L AND slot < %L OFFSET 0) c WHERE %s';
    of_day     text := CASE WHEN only_site IS NULL THEN 'true' ELSE format('r.site_id = %s', only_site) END;
    of_pair    text := CASE WHEN only_site IS NULL THEN 'true' ELSE format('p.site_id = %s', only_site) END;
    this       timestamptz;
BEGIN
    SELECT date_bin('1 hour', from_time + interval '1 hour' - instant, epoch), date_bin('1 hour', least(to_time, rolled_until), epoch)
      INTO STRICT h0, h1 FROM rollup_state;
    IF h0 >= h1 THEN    -- not one whole hour
        parts := ARRAY[format(check_part, from_time, to_time, of_pair)];
    ELSE
        d0 := date_bin('1 day', h0 + interval '1 day' - instant, epoch);
        d1 := greatest(date_bin('1 day', h1, epoch), d0);
        SELECT coalesce(array_agg(DISTINCT start) FILTER (WHERE period = 'hour'), '{}'),
               coalesce(array_agg(DISTINCT date_bin('1 day', start, epoch)) FILTER (WHERE start >= d0 AND start < d1), '{}')
          INTO dirty, dirty_days FROM rollup_dirty WHERE start >= h0 AND start < h1;
        parts := ARRAY[
            format(check_part, from_time, h0, of_pair),
            format(hour_part, h0, least(d0, h1), dirty, of_pair),
            format(day_part, d0, d1, dirty_days, of_day),
            format(hour_part, greatest(d1, h0), h1, dirty, of_pair),
            format(check_part, h1, to_time, of_pair)];
        IF d0 >= d1 THEN -- no whole day: hours, once
            parts := ARRAY[parts[1], format(hour_part, h0, h1, dirty, of_pair), parts[5]];
        END IF;
        FOREACH this IN ARRAY dirty_days LOOP
            parts := parts || format(hour_part, this, this + interval '1 day', dirty, of_pair);
        END LOOP;
        FOREACH this IN ARRAY dirty LOOP
            parts := parts || format(check_part, this, this + interval '1 hour', of_pair);
        END LOOP;
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT site, location, sum(u), sum(g), sum(d), sum(n), min(least_us), max(most_us), sum(sum_us)::numeric, sum(hist), sum(first_hist)
           FROM (%s) AS part (start, site, location, u, g, d, n, least_us, most_us, sum_us, hist, first_hist)
          GROUP BY site, location', array_to_string(parts, ' UNION ALL '));
END
$function$;

-- ---- Retention (version 4) ----
-- Partitions that are being dropped: noted before they are detached, so that one whose dropping was interrupted is dropped
-- later, and one that somebody has detached to keep it never is.
CREATE TABLE IF NOT EXISTS partition_drop (
    name       text PRIMARY KEY,
    parent     text NOT NULL,
    reason     text NOT NULL, -- 'retention', or 'width': it was made ahead, is empty, and has not the width of new ones
    begun_at   timestamptz NOT NULL DEFAULT now()
);

-- ---- Which rows must exist (version 3) ----
-- What sites have announced: from the slot `since` on, and until the slot `until`, their slots are due. (site, location,
-- since) is a revision's identity. A producer that ends in order sets until; after one that was killed, the next revision
-- of the same site and location ends it. `resolve: each` sites have a revision for each address, under name@address.
CREATE TABLE IF NOT EXISTS site_revision (
    site_id        int4 NOT NULL,
    location_id    int4 NOT NULL,
    since          timestamptz NOT NULL, -- the first slot that is due
    until          timestamptz,          -- the first slot that is no longer due
    interval_us    int8,                 -- microseconds from slot to slot; null for a calendar
    phase_us       int8,                 -- microseconds from 1970 UTC to a slot, modulo the interval
    cron           text,                 -- a calendar: five fields and a time zone
    check_limit_us int8 NOT NULL,        -- microseconds that a check may take at most
    config_hash    text NOT NULL,
    labels         jsonb,
    run            timestamptz NOT NULL, -- when the producer process started; with the location, it names the run
    received_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, location_id, since)
);

-- Each revision with the instant at which it ends, `infinity` for one that stands.
CREATE OR REPLACE VIEW due_span AS
SELECT site_id, location_id, since,
       coalesce(least(until, lead(since) OVER following), 'infinity') AS due_until,
       coalesce(lead(since) OVER following, 'infinity') AS next_since,
       until, interval_us, cron, check_limit_us, run
  FROM site_revision
WINDOW following AS (PARTITION BY site_id, location_id ORDER BY since);

-- The slots from one instant to before another that are due and must each have a row, of sites with an interval. Calendars
-- are expanded by `sitewatch-node audit`. What has no row:
--   SELECT * FROM expected_slots(now() - interval '1 hour', now() - interval '2 minutes')
--   EXCEPT SELECT site_id, location_id, slot FROM check_result WHERE slot > now() - interval '1 hour';
CREATE OR REPLACE FUNCTION expected_slots(from_time timestamptz, to_time timestamptz)
RETURNS TABLE (site_id int4, location_id int4, slot timestamptz) LANGUAGE sql STABLE ROWS 100000 AS $$
    SELECT s.site_id, s.location_id, due
      FROM due_span s
     CROSS JOIN LATERAL (SELECT s.interval_us * interval '1 microsecond' AS step) AS with_step
     -- From the first slot that is not before from_time: date_bin is exact, in microseconds.
     CROSS JOIN LATERAL generate_series(
               CASE WHEN s.since >= from_time THEN s.since
                    ELSE date_bin(step, from_time - interval '1 microsecond', s.since) + step END,
               least(s.due_until, to_time) - interval '1 microsecond', step) AS due
     WHERE s.interval_us IS NOT NULL AND s.since < to_time AND s.due_until > from_time
$$;

-- The stable face for people and dashboards.
CREATE OR REPLACE VIEW checks AS
SELECT s.name AS site,
       s.url,
       l.name AS location,
       c.slot,
       o.name AS outcome,
       e.name AS error,
       c.status,
       round(c.total_us / 1000.0, 3) AS total_ms,
       c.lateness_ms,
       d.detail,
       coalesce((d.facts->>'attempts')::int4, CASE WHEN e.name = 'missed' THEN 0 ELSE 1 END) AS attempts
  FROM check_result c
  JOIN site s USING (site_id)
  JOIN location l USING (location_id)
  JOIN outcome o ON o.outcome_id = c.outcome
  LEFT JOIN error_kind e ON e.error_id = c.error
  LEFT JOIN check_detail d ON d.site_id = c.site_id AND d.location_id = c.location_id AND d.slot = c.slot;

INSERT INTO schema_version (version, usable_from) VALUES (5, 5) ON CONFLICT DO NOTHING;
