-- All tables of sitewatch-node.
--
-- The consumer applies this file under an advisory lock when it connects, and so does `sitewatch-node migrate`. It may be
-- run any number of times. Times are UTC in the database's own type; durations carry their unit in the name.

CREATE TABLE IF NOT EXISTS schema_version (
    version    int4 PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

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

-- One row a check; (site, location, slot) is its identity, whatever was retried or sent twice. Narrow on purpose: at 8
-- columns the null bitmap fits into the row's header. No foreign keys: they would cost a look-up a row, and the consumer
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
    PRIMARY KEY (site_id, location_id, slot)
) PARTITION BY RANGE (slot);

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

-- Makes a partition of one of the two tables of checks, for slots from from_slot up to and without to_slot, and gives its
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
    IF parent IS NULL OR parent NOT IN ('check_result', 'check_detail') THEN
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

INSERT INTO schema_version (version) VALUES (3) ON CONFLICT DO NOTHING;
