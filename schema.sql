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
    first_seen timestamptz NOT NULL DEFAULT now(),
    group_name text,                        -- what its last announcement says of it
    tags       text[] NOT NULL DEFAULT '{}',
    sla_target float8,                      -- the uptime that is to be reached, in percent, over sla_window up to now
    sla_window interval,
    told_since timestamptz                  -- the first slot of that announcement: an older one changes nothing
);
-- Version 6.
ALTER TABLE site ADD COLUMN IF NOT EXISTS group_name text, ADD COLUMN IF NOT EXISTS tags text[] NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS sla_target float8, ADD COLUMN IF NOT EXISTS sla_window interval,
    ADD COLUMN IF NOT EXISTS told_since timestamptz;

-- The names that sites had before: what still comes under one of them is stored under the new one. To make such a name that of a
-- site of its own again, delete its row.
CREATE TABLE IF NOT EXISTS site_alias (
    name       text PRIMARY KEY,
    site_id    int4 NOT NULL,
    renamed_at timestamptz NOT NULL DEFAULT now()
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
    judged     int8,        -- the offset up to which checks were judged (see incident); behind next where an older program stored
    last_hash  int8,        -- a hash of the message before hash_next: if Kafka holds another one there, the topic is not the one that was
    hash_next  int8,        -- stored; of no use where an older program or a person has moved next
    cluster_id text,        -- of the cluster from which it came
    PRIMARY KEY (topic, partition)
);
-- Versions 6 and 10.
ALTER TABLE kafka_offset ADD COLUMN IF NOT EXISTS judged int8, ADD COLUMN IF NOT EXISTS last_hash int8,
    ADD COLUMN IF NOT EXISTS hash_next int8, ADD COLUMN IF NOT EXISTS cluster_id text;

-- Breaks in a topic's offsets. reason: 'recreated' (the topic ends before the stored offset, or holds another message before it: it was
-- deleted and made again, or is another cluster's; it is read from its beginning), 'retention' (it begins after it: messages expired unread), 'absent' (Kafka skipped offsets, as compaction does).
CREATE TABLE IF NOT EXISTS kafka_gap (
    gap_id      int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic       text NOT NULL,
    partition   int4 NOT NULL,
    reason      text NOT NULL,
    from_offset int8 NOT NULL,
    to_offset   int8 NOT NULL,
    noticed_at  timestamptz NOT NULL DEFAULT now()
);

-- Results that were not stored, since their slot has one that says something else: two producers check the same sites from the same
-- location, or a clock was set back. By the hour, so that it stays small whatever goes wrong. A placeholder (missed, internal_error) is no
-- such case: the result of a check replaces it, whichever of the two comes first. Version 10.
CREATE TABLE IF NOT EXISTS check_conflict (
    site_id     int4 NOT NULL,
    location_id int4 NOT NULL,
    hour        timestamptz NOT NULL,
    number      int8 NOT NULL,
    slot        timestamptz NOT NULL, -- of the first one
    stored      jsonb NOT NULL,       -- what its slot has: outcome, error, status, total_us, lateness_ms
    refused     jsonb NOT NULL,       -- the same of what was not stored
    noticed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, location_id, hour)
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
    IF parent IS NULL OR parent NOT IN ('check_result', 'check_detail', 'rollup_hour', 'rollup_day', 'rollup_month_to_date') THEN
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

-- The lowest bucket that has a value: where the number's last digit that is not 0 stands. No bucket of total_us is beyond the 423rd.
CREATE OR REPLACE FUNCTION hist_lowest(hist numeric) RETURNS int4 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN hist <> 0 THEN (3440 - min_scale(hist * 1e-3440)) / 8 END $$;

-- The highest one, by the number's exponent, into which to_char carries nothing.
CREATE OR REPLACE FUNCTION hist_highest(hist numeric) RETURNS int4 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN hist <> 0 THEN split_part(to_char(hist, '9EEEE'), '+', 2)::int4 / 8 END $$;

-- The time in milliseconds that a part p (0 to 1) of the values does not exceed, to 2 %; null of an empty histogram. longest_us and
-- shortest_us, where they are known, bound the answer and the search. It halves the buckets in question, and with them the number:
-- the shorter that is, the quicker its digits are summed.
CREATE OR REPLACE FUNCTION hist_percentile(hist numeric, p float8, longest_us int8 DEFAULT 4000000000, shortest_us int8 DEFAULT 0)
RETURNS float8 LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $function$
DECLARE
    lowest int4 := hist_bucket(shortest_us);
    width  int4 := hist_bucket(longest_us) - lowest + 1;
    part   numeric;
    upper  numeric;
    number int8;
    needed int8; -- so many of the part's values are not below the one that is sought
    half   int4;
BEGIN
    IF hist IS NULL OR hist = 0 THEN
        RETURN NULL;
    END IF;
    part := div(hist, hist_of(lowest));
    number := mod(part, 99999999);
    needed := number + 1 - greatest(ceil(p::numeric * number), 1);
    WHILE width > 1 LOOP
        half := width / 2;
        upper := div(part, hist_of(half));
        number := mod(upper, 99999999);
        IF number >= needed THEN
            lowest := lowest + half;
            width := width - half;
            part := upper;
        ELSE
            needed := needed - number;
            width := half;
            part := part - trunc(part, -8 * half);
        END IF;
    END LOOP;
    RETURN least(hist_value(lowest), longest_us) / 1000;
END
$function$;

-- The same of several histograms, which together may have more values than one holds.
CREATE OR REPLACE FUNCTION hist_percentile_of(hists numeric[], p float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $function$
DECLARE
    lowest int4 := 0;
    width  int4 := hist_bucket(4000000000) + 1;
    number int8 := (SELECT sum(hist_count(hist)) FROM unnest(hists) AS hist);
    needed int8 := number + 1 - greatest(ceil(p::numeric * number), 1);
    half   int4;
BEGIN
    IF coalesce(number, 0) < 99999999 THEN
        RETURN hist_percentile((SELECT sum(hist) FROM unnest(hists) AS hist), p);
    END IF;
    WHILE width > 1 LOOP
        half := width / 2;
        -- From the middle of what is left on, and all that is longer.
        IF (SELECT sum(hist_count(hist, lowest + half)) FROM unnest(hists) AS hist) >= needed THEN
            lowest := lowest + half;
            width := width - half;
        ELSE
            width := half;
        END IF;
    END LOOP;
    RETURN hist_value(lowest) / 1000;
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

-- The same, from the beginning of a month (UTC) up to the end of a day in it: so any days are a difference of few rows, and many sites'
-- month is as quick as their day (prefix sums). Each day that has a row has one of every site that was checked so far in its month.
-- What is shortest or longest can't be subtracted: a histogram has it, to 2 %. Version 7.
CREATE TABLE IF NOT EXISTS rollup_month_to_date (
    day          timestamptz NOT NULL, -- the last day that is counted
    site_id      int4 NOT NULL,
    location_id  int4 NOT NULL,
    up           int4 NOT NULL,
    degraded     int4 NOT NULL,
    down         int4 NOT NULL,
    unknown      int4 NOT NULL,
    total_sum_us int8,
    total_hist   numeric,
    ttfb_hist    numeric,
    PRIMARY KEY (day, site_id, location_id)
) PARTITION BY RANGE (day);

-- Which sites have been checked from which locations. With it the key of check_result finds all checks of an hour; an index on slot,
-- even a BRIN, would cost each row a tenth more.
CREATE TABLE IF NOT EXISTS site_location (
    site_id     int4 NOT NULL,
    location_id int4 NOT NULL,
    partition   int4, -- of Kafka, from which its checks come: who reads it judges them (see incident)
    PRIMARY KEY (site_id, location_id)
);
ALTER TABLE site_location ADD COLUMN IF NOT EXISTS partition int4;
-- Of rows that are older than this table.
INSERT INTO site_location (site_id, location_id) SELECT DISTINCT site_id, location_id FROM check_result
 WHERE NOT EXISTS (SELECT FROM site_location) ON CONFLICT DO NOTHING;

-- Up to which hour rollups are made. A writer reads it with a lock, and notes in rollup_dirty what it adds before it; moving it on
-- waits for the writers that have read it. So a row is either there when its hour is computed, or noted.
CREATE TABLE IF NOT EXISTS rollup_state (
    one          bool PRIMARY KEY DEFAULT true CHECK (one),
    rolled_until timestamptz NOT NULL DEFAULT '1970-01-01 00:00+00',
    raw_since    timestamptz NOT NULL DEFAULT '1970-01-01 00:00+00', -- checks before are dropped, or about to be
    hours_since  timestamptz NOT NULL DEFAULT '1970-01-01 00:00+00', -- the same of rollup_hour
    judged_again int8 NOT NULL DEFAULT 0                             -- counts changes of incidents by judging again: who judges by what
);                                                                   -- it remembers looks at it in each transaction
ALTER TABLE rollup_state ADD COLUMN IF NOT EXISTS judged_again int8 NOT NULL DEFAULT 0;
INSERT INTO rollup_state DEFAULT VALUES ON CONFLICT DO NOTHING;

-- What is to be computed, again or for the first time. Written in the transaction that adds the rows, deleted in the one that
-- computes. The rollups of an hour without a row here are what check_result says.
CREATE TABLE IF NOT EXISTS rollup_dirty (
    period      text NOT NULL,        -- 'hour', 'day', or 'month': a month's days from start on, in rollup_month_to_date
    start       timestamptz NOT NULL,
    location_id int4,                 -- null: all
    site_ids    int4[],               -- null: all
    noted_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS rollup_dirty_start ON rollup_dirty (period, start);

-- Whoever changes a day, an older consumer too, has noted that its month is another.
CREATE OR REPLACE FUNCTION note_month() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    INSERT INTO rollup_dirty (period, start, site_ids) SELECT 'month', day, array_agg(DISTINCT site_id) FROM changed GROUP BY day;
    RETURN NULL;
END
$function$;
CREATE OR REPLACE TRIGGER rollup_day_added AFTER INSERT ON rollup_day REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_month();
CREATE OR REPLACE TRIGGER rollup_day_changed AFTER UPDATE ON rollup_day REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_month();
-- All days that were computed before. Each site's first one is found by the key.
INSERT INTO rollup_dirty (period, start)
SELECT 'month', day
  FROM (SELECT min(d.day) AS first
          FROM site_location p
         CROSS JOIN LATERAL (SELECT min(day) AS day FROM rollup_day r WHERE r.site_id = p.site_id AND r.location_id = p.location_id) AS d
       ) AS days,
       generate_series(first, now(), '24 hours') AS day
 WHERE NOT EXISTS (SELECT FROM rollup_month_to_date);

-- What the planner must see of ranges, to know which partitions to look into: their bounds, or those of all where there are many.
CREATE OR REPLACE FUNCTION bounds_of(key text, ranges tstzmultirange) RETURNS text LANGUAGE sql IMMUTABLE SET timezone = 'UTC' AS $$
    SELECT CASE WHEN count(*) <= 4 THEN '(' || string_agg(format('%1$I >= %2$L AND %1$I < %3$L', key, lower(span), upper(span)), ' OR ') || ')'
                ELSE format('%1$I >= %2$L AND %1$I < %3$L', key, lower(ranges), upper(ranges)) END
      FROM unnest(ranges) AS span
$$;

-- What there is in some ranges of time (each from its lower bound to before its upper one), of each site at each location, or of some
-- sites: from rollups as far as they reach and are right, else from the checks themselves. So the answer is the same as of the checks,
-- whatever comes late; where these are dropped, hours are the finest that is known. total_hist and ttfb_hist: see hist_percentile; null
-- of more values than one holds. The shortest and the longest time are to 2 %. Adding up histograms is most of the work: without the time
-- to the first byte (with_ttfb false) it is half as much. Without by_location there is one row of a site, of all its locations, whose
-- number is null.
--
-- Times are cut into sets: checks to be counted, hours and days to be added, and hours to be taken off again, since a day that lacks only
-- some is taken whole, less these. Days are what their months are to date less what these were before. Hours and checks are looked up site
-- by site, by their keys. The statement is made with its bounds in it; compiling it (jit) would take seconds.
CREATE OR REPLACE FUNCTION site_stats_in(ranges tstzmultirange, only_sites int4[] DEFAULT NULL, with_ttfb bool DEFAULT true,
                                         by_location bool DEFAULT true)
RETURNS TABLE (site_id int4, location_id int4, up int8, degraded int8, down int8, unknown int8, total_min_us int4, total_max_us int4,
               total_sum_us numeric, total_hist numeric, ttfb_hist numeric)
LANGUAGE plpgsql STABLE ROWS 1000 SET jit = off SET timezone = 'UTC' AS $function$
DECLARE
    epoch        timestamptz := '2000-01-01 00:00+00';
    instant      interval := '1 microsecond';
    state        rollup_state;
    first_day    timestamptz;    -- before it there is nothing
    noted_hours  tstzmultirange; -- whose rollups are not right now
    noted_days   tstzmultirange;
    noted_months timestamptz[];  -- the days from which on they are not right to date
    rolled       tstzmultirange; -- whole hours whose rollups are made
    days         tstzmultirange; -- whole days to be added
    lone_days    tstzmultirange; -- those of them that are read as days, since their month to date is not right
    added_hours  tstzmultirange;
    taken_hours  tstzmultirange;
    checks       tstzmultirange;
    added_months timestamptz[];
    taken_months timestamptz[];
    added        text := 'SELECT r.site_id, r.location_id, up, degraded, down, unknown, total_sum_us, total_hist, ttfb_hist';
    taken        text := 'SELECT r.site_id, r.location_id, -up, -degraded, -down, -unknown, -total_sum_us, -total_hist, -ttfb_hist';
    of_month     text := '%s FROM rollup_month_to_date r WHERE day = ANY (%L::timestamptz[]) AND %s';
    of_day       text := added || ' FROM rollup_day r WHERE day <@ %L::tstzmultirange AND %s AND %s';
    of_hour      text := '%s FROM site_location p CROSS JOIN unnest(%L::tstzmultirange) AS span CROSS JOIN LATERAL (
        SELECT * FROM rollup_hour h WHERE h.site_id = p.site_id AND h.location_id = p.location_id
           AND hour >= lower(span) AND hour < upper(span) AND %s OFFSET 0) AS r WHERE %s';
    of_check     text := 'SELECT c.site_id, c.location_id, (outcome = 0)::int4, (outcome = 1)::int4, (outcome = 2)::int4,
        (outcome = 3)::int4, total_us::int8, hist_of(hist_bucket(total_us)), hist_of(ttfb_bucket)
        FROM site_location p CROSS JOIN unnest(%L::tstzmultirange) AS span CROSS JOIN LATERAL (
        SELECT k.site_id, k.location_id, outcome, CASE WHEN outcome < 2 THEN total_us END AS total_us,
               CASE WHEN outcome < 2 THEN ttfb_bucket END AS ttfb_bucket
          FROM check_result k WHERE k.site_id = p.site_id AND k.location_id = p.location_id
           AND slot >= lower(span) AND slot < upper(span) AND %s OFFSET 0) AS c WHERE %s';
    of_sites     text := CASE WHEN only_sites IS NULL THEN 'true'
                              WHEN cardinality(only_sites) = 1 AND only_sites[1] IS NOT NULL THEN format('site_id = %s', only_sites[1])
                              ELSE format('site_id = ANY (%L::int4[])', only_sites) END;
    of_rollup    text := CASE WHEN only_sites IS NULL THEN 'true' ELSE 'r.' || of_sites END;
    of_pair      text := CASE WHEN only_sites IS NULL THEN 'true' ELSE 'p.' || of_sites END;
    parts        text[];
BEGIN
    SELECT * INTO STRICT state FROM rollup_state;
    SELECT range_agg(tstzrange(from_time, to_time)), coalesce(range_agg(tstzrange(h0, h1)) FILTER (WHERE h0 < h1), '{}')
      INTO checks, rolled
      FROM unnest(ranges) AS span
     CROSS JOIN LATERAL (SELECT coalesce(lower(span), '-infinity') AS from_time, coalesce(upper(span), 'infinity') AS to_time) AS given
     CROSS JOIN LATERAL (SELECT date_bin('1 hour', from_time + interval '1 hour' - instant, epoch) AS h0,
                                date_bin('1 hour', least(to_time, state.rolled_until), epoch) AS h1) AS whole;
    -- What was dropped is not computed again, noted or not.
    SELECT coalesce(range_agg(tstzrange(start, start + interval '1 hour')) FILTER (WHERE period = 'hour' AND can_be), '{}'),
           coalesce(range_agg(tstzrange(day, day + interval '1 day')) FILTER (WHERE period IN ('hour', 'day') AND can_be), '{}'),
           coalesce(array_agg(DISTINCT day), '{}')
      INTO noted_hours, noted_days, noted_months
      FROM rollup_dirty
     CROSS JOIN LATERAL (SELECT date_bin('1 day', start, epoch) AS day,
                                start >= state.hours_since AND (period <> 'hour' OR start >= state.raw_since) AS can_be) AS of_note
     WHERE start >= lower(rolled) - interval '1 day' AND start < upper(rolled) + interval '1 day';
    first_day := (SELECT least(min(day), (SELECT min(day) FROM unnest(noted_months) AS day))
                    FROM rollup_month_to_date WHERE day >= date_bin('1 day', lower(rolled), epoch));
    -- At each end of a range the day is taken whole where more than half of it is in it.
    SELECT coalesce(range_agg(tstzrange(greatest(d0, first_day), d1)) FILTER (WHERE greatest(d0, first_day) < d1), '{}') - noted_days
      INTO days
      FROM unnest(rolled) AS span
     CROSS JOIN LATERAL (SELECT date_bin('1 day', lower(span) + interval '1 day' - instant, epoch) AS day0,
                                date_bin('1 day', upper(span), epoch) AS day1) AS whole
     CROSS JOIN LATERAL (
            SELECT CASE WHEN lower(span) < day0 - interval '12 hours' AND day0 <= state.rolled_until AND day0 - interval '1 day' >= state.hours_since
                        THEN day0 - interval '1 day' ELSE day0 END AS d0,
                   CASE WHEN upper(span) > day1 + interval '12 hours' AND day1 + interval '1 day' <= state.rolled_until AND day1 >= state.hours_since
                        THEN day1 + interval '1 day' ELSE day1 END AS d1) AS nearly
     WHERE first_day IS NOT NULL;
    added_hours := rolled - noted_hours - days;
    taken_hours := days - rolled;
    checks := checks - rolled + rolled * noted_hours;
    -- A day on which nothing was checked has no row: the one before it says the same.
    SELECT array_agg(until.day) FILTER (WHERE until.day > coalesce(before.day, '-infinity')),
           array_agg(before.day) FILTER (WHERE until.day > before.day),
           range_agg(tstzrange(right_until, last))
      INTO added_months, taken_months, lone_days
      FROM unnest(days) AS span
     CROSS JOIN generate_series(date_trunc('month', lower(span)), upper(span) - instant, interval '1 month') AS month
     CROSS JOIN LATERAL (SELECT greatest(lower(span), month) AS first, least(upper(span), month + interval '1 month') AS last) AS part
     CROSS JOIN LATERAL (SELECT coalesce(min(day), last) AS right_until FROM unnest(noted_months) AS day WHERE day >= first AND day < last) AS noted
     CROSS JOIN LATERAL (SELECT max(day) AS day FROM rollup_month_to_date WHERE day >= month AND day < right_until) AS until
     CROSS JOIN LATERAL (SELECT max(day) AS day FROM rollup_month_to_date WHERE day >= month AND day < first) AS before;
    SELECT array_agg(part) INTO parts
      FROM (VALUES (NOT isempty(checks), format(of_check, checks, bounds_of('slot', checks), of_pair)),
                   (NOT isempty(added_hours), format(of_hour, added, added_hours, bounds_of('hour', added_hours), of_pair)),
                   (NOT isempty(taken_hours), format(of_hour, taken, taken_hours, bounds_of('hour', taken_hours), of_pair)),
                   (NOT isempty(lone_days), format(of_day, lone_days, bounds_of('day', lone_days), of_rollup)),
                   (added_months IS NOT NULL, format(of_month, added, added_months, of_rollup)),
                   (taken_months IS NOT NULL, format(of_month, taken, taken_months, of_rollup))) AS possible (there_is, part)
     WHERE there_is;
    IF parts IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT site, location, u, g, d, n, CASE WHEN hist IS NOT NULL THEN least(hist_value(lowest), 2147483647)::int4 END,
                CASE WHEN hist IS NOT NULL THEN least(hist_value(highest), 2147483647)::int4 END,
                CASE WHEN u + g > 0 THEN sum_us END, hist, first_hist
           FROM (SELECT *, hist_lowest(hist) AS lowest, hist_highest(hist) AS highest
                   FROM (SELECT site, %s AS location, sum(u) AS u, sum(g) AS g, sum(d) AS d, sum(n) AS n, sum(sum_us) AS sum_us,
                                CASE WHEN sum(u) + sum(g) < 99999999 THEN nullif(sum(hist), 0) END AS hist, %s AS first_hist
                           FROM (%s) AS part (site, location, u, g, d, n, sum_us, hist, first_hist)
                          GROUP BY 1, 2) AS whole
                  WHERE u + g + d + n > 0 OFFSET 0) AS bounded',
        CASE WHEN by_location THEN 'location' ELSE 'NULL::int4' END,
        CASE WHEN with_ttfb THEN 'CASE WHEN sum(u) + sum(g) < 99999999 THEN nullif(sum(first_hist), 0) END' ELSE 'NULL::numeric' END,
        array_to_string(parts, ' UNION ALL '));
END
$function$;

-- The same from one instant to before another.
DROP FUNCTION IF EXISTS site_stats(timestamptz, timestamptz, int4), site_stats(timestamptz, timestamptz, int4[], bool, bool); -- of versions 5 and 7
CREATE OR REPLACE FUNCTION site_stats(from_time timestamptz, to_time timestamptz, only_sites int4[] DEFAULT NULL, with_ttfb bool DEFAULT true)
RETURNS TABLE (site_id int4, location_id int4, up int8, degraded int8, down int8, unknown int8, total_min_us int4, total_max_us int4,
               total_sum_us numeric, total_hist numeric, ttfb_hist numeric)
LANGUAGE sql STABLE ROWS 1000 AS $$
    SELECT * FROM site_stats_in(CASE WHEN from_time < to_time THEN tstzmultirange(tstzrange(from_time, to_time)) ELSE '{}' END,
                                only_sites, with_ttfb)
$$;

-- ---- Retention (version 4) ----
-- Partitions on their way out: noted before they are detached, so that one whose dropping was interrupted is dropped later, and one that
-- somebody has detached to keep it never is. One that was too old stays as a table of its own for postgres.retention.grace, and comes back
-- if it is not too old after all.
CREATE TABLE IF NOT EXISTS partition_drop (
    name        text PRIMARY KEY,
    parent      text NOT NULL,
    reason      text NOT NULL, -- 'retention', or 'width': it was made ahead, is empty, and has not the width of new ones
    begun_at    timestamptz NOT NULL DEFAULT now(),
    detached_at timestamptz,
    from_slot   timestamptz,   -- what it was for: null if an earlier program has noted it
    to_slot     timestamptz
);
-- Version 10.
ALTER TABLE partition_drop ADD COLUMN IF NOT EXISTS detached_at timestamptz, ADD COLUMN IF NOT EXISTS from_slot timestamptz,
    ADD COLUMN IF NOT EXISTS to_slot timestamptz;

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
    failure_threshold int2,              -- when its failures are an incident; null: 3, 2 and 5 minutes
    success_threshold int2,
    flap_window_us    int8,
    PRIMARY KEY (site_id, location_id, since)
);
ALTER TABLE site_revision ADD COLUMN IF NOT EXISTS failure_threshold int2, ADD COLUMN IF NOT EXISTS success_threshold int2,
    ADD COLUMN IF NOT EXISTS flap_window_us int8;
CREATE INDEX IF NOT EXISTS site_revision_cron ON site_revision (cron) WHERE cron IS NOT NULL;

-- Each revision with the instant at which it ends, `infinity` for one that stands. One that ends where it begins is not there: nothing of it
-- was due, and it ends no other. Before version 10 messages had fewer bounds, and consumers of then may still run: what is beyond them here
-- counts as if it were at them, so that no arithmetic overflows.
CREATE OR REPLACE VIEW due_span AS
SELECT site_id, location_id, since,
       coalesce(least(until, lead(since) OVER following), 'infinity') AS due_until,
       coalesce(lead(since) OVER following, 'infinity') AS next_since,
       until, CASE WHEN cron IS NULL THEN least(greatest(interval_us, 1000), 3155760000000000) END AS interval_us, cron,
       least(greatest(check_limit_us, 0), 86400000000) AS check_limit_us, run
  FROM site_revision
 WHERE until IS NULL OR until > since
WINDOW following AS (PARTITION BY site_id, location_id ORDER BY since);

-- The slots of each announced calendar, by day (UTC): housekeeping writes them down, from the first announcement to two days ahead, since
-- SQL has no cron; not those of before there was history. Version 7.
CREATE TABLE IF NOT EXISTS calendar_day (
    cron  text NOT NULL,
    day   timestamptz NOT NULL,
    slots timestamptz[] NOT NULL,
    PRIMARY KEY (cron, day)
);

-- How many slots a calendar has from lo to before hi; null where it is not written down yet.
CREATE OR REPLACE FUNCTION calendar_slots(calendar text, lo timestamptz, hi timestamptz) RETURNS int8
LANGUAGE sql STABLE SET timezone = 'UTC' AS $$
    SELECT CASE WHEN lo >= hi THEN 0
                WHEN count(day) = (extract(epoch FROM last - first) / 86400)::int8 + 1 THEN
                     sum(CASE WHEN day >= lo AND day + interval '1 day' <= hi THEN cardinality(slots)
                              ELSE (SELECT count(*) FROM unnest(slots) AS slot WHERE slot >= lo AND slot < hi) END)::int8 END
      FROM (SELECT date_bin('1 day', lo, '2000-01-01 00:00+00') AS first,
                   date_bin('1 day', hi - interval '1 microsecond', '2000-01-01 00:00+00') AS last) AS days
      LEFT JOIN calendar_day ON cron = calendar AND day BETWEEN first AND last
     GROUP BY first, last
$$;

-- Each site as people know it. due_until: the slot from which on it is due nowhere any more, since it was removed or its producers
-- ended in order; null while it is due.
CREATE OR REPLACE VIEW sites AS
SELECT s.name AS site,
       s.group_name AS "group",
       s.tags,
       s.url,
       s.sla_target,
       s.sla_window,
       s.first_seen,
       (SELECT CASE WHEN bool_and(d.until IS NOT NULL) THEN max(d.until) END
          FROM due_span d WHERE d.site_id = s.site_id AND d.next_since = 'infinity') AS due_until,
       ARRAY(SELECT a.name FROM site_alias a WHERE a.site_id = s.site_id ORDER BY a.renamed_at) AS formerly
  FROM site s;

-- The slots from one instant to before another that are due and must each have a row; those of calendars, as far as they are written
-- down. What has no row:
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
     UNION ALL
    SELECT s.site_id, s.location_id, due
      FROM due_span s
      JOIN calendar_day c ON c.cron = s.cron AND day > from_time - interval '24 hours' AND day < to_time
     CROSS JOIN LATERAL unnest(slots) AS due
     WHERE due >= greatest(s.since, from_time) AND due < least(s.due_until, to_time)
$$;

-- ---- Incidents (version 6) ----
-- failure_threshold checks in a row that are down open an incident of a site at a location, success_threshold that are up or degraded
-- close it; unknown ones are passed over. Written in the transaction that stores the check which decides. (site, location, began) is its
-- identity. They are a function of the checks in the order of their slots: `sitewatch-node` judges again from a check on that comes late.
CREATE TABLE IF NOT EXISTS incident (
    site_id     int4 NOT NULL,
    location_id int4 NOT NULL,
    began       timestamptz NOT NULL, -- the slot of the first failure
    opened      timestamptz NOT NULL, -- of the failure with which the threshold was reached
    ended       timestamptz,          -- of the first success after the last failure; null while it lasts
    closed      timestamptz,          -- of the success with which the threshold was reached
    flaps       int4 NOT NULL,        -- how often it was closed and went on, since the site failed again within its flap_window
    error       int2,                 -- of the first failure
    detail      text,
    PRIMARY KEY (site_id, location_id, began)
);
CREATE INDEX IF NOT EXISTS incident_began ON incident (began);

-- Checks that came after later ones had been judged: written in the transaction that adds them. Judging again goes from this slot on.
CREATE TABLE IF NOT EXISTS incident_late (
    since       timestamptz NOT NULL,
    location_id int4 NOT NULL,
    site_ids    int4[] NOT NULL
);

-- What is to be judged again, by site and location: taken from incident_late, deleted in the transaction that judges.
CREATE TABLE IF NOT EXISTS incident_again (
    site_id     int4 NOT NULL,
    location_id int4 NOT NULL,
    since       timestamptz NOT NULL,
    PRIMARY KEY (site_id, location_id)
);
-- All that was stored before there were incidents.
INSERT INTO incident_again SELECT site_id, location_id, '1970-01-01 00:00+00' FROM site_location
 WHERE NOT EXISTS (SELECT FROM schema_version WHERE version >= 6) ON CONFLICT DO NOTHING;

-- Each incident with its end. One of a site that is not due there any more, since it was removed, ends when it was due for the last time:
-- nobody looks whether it goes on. Version 9.
CREATE OR REPLACE VIEW incident_span AS
SELECT i.site_id, i.location_id, i.began,
       coalesce(i.ended, CASE WHEN r.until IS NOT NULL THEN greatest(r.until, i.opened) END) AS ended,
       i.closed IS NULL AND r.until IS NULL AS open,
       i.opened, i.closed, i.flaps, i.error, i.detail
  FROM incident i
  LEFT JOIN LATERAL (SELECT CASE WHEN until < now() THEN until END AS until FROM site_revision r
                      WHERE r.site_id = i.site_id AND r.location_id = i.location_id AND i.closed IS NULL
                      ORDER BY since DESC LIMIT 1) AS r ON true;

CREATE OR REPLACE VIEW incidents AS
SELECT s.name AS site,
       l.name AS location,
       i.began,
       i.ended,
       coalesce(i.ended, now()) - i.began AS lasted,
       i.open,
       e.name AS error,
       i.detail,
       i.flaps,
       i.opened,
       i.closed
  FROM incident_span i
  JOIN site s USING (site_id)
  JOIN location l USING (location_id)
  LEFT JOIN error_kind e ON e.error_id = i.error;

-- ---- Maintenance (version 6) ----
-- Windows in which failures do not count: of all sites, or of those with one of these names, groups or tags. A window may be declared
-- after it was: uptime is computed when it is asked for. See `sitewatch-node maintenance`.
CREATE TABLE IF NOT EXISTS maintenance (
    maintenance_id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name           text NOT NULL,
    site_names     text[],                -- with group_names and tags null too: all sites
    group_names    text[],
    tags           text[],
    from_time      timestamptz NOT NULL,  -- once, or the first and the last instant at which one may begin
    to_time        timestamptz,
    cron           text,                  -- when one begins: five fields and a time zone; null: once
    lasts          interval,              -- of one that recurs
    expanded_until timestamptz,           -- up to where maintenance_span has those that recur
    declared_at    timestamptz NOT NULL DEFAULT now(),
    declared_by    text NOT NULL DEFAULT current_user
);

-- Those of any hour lacked one when clocks are set back: they are written down again.
UPDATE maintenance SET expanded_until = NULL
 WHERE cron ~ '^\s*\S+\s+(\*|0-23\s)' AND NOT EXISTS (SELECT FROM schema_version WHERE version >= 9);

-- Each window in time. Those that recur are written down a year ahead, by the program, which knows time zones and their rules as of then.
CREATE TABLE IF NOT EXISTS maintenance_span (
    maintenance_id int4 NOT NULL REFERENCES maintenance ON DELETE CASCADE,
    span           tstzrange NOT NULL,
    PRIMARY KEY (maintenance_id, span)
);

-- The windows of each site that has some in this range or a day before or after it, as they were declared, overlapping ones made one.
CREATE OR REPLACE FUNCTION site_windows(from_time timestamptz, to_time timestamptz, only_sites int4[] DEFAULT NULL)
RETURNS TABLE (site_id int4, windows tstzmultirange) LANGUAGE sql STABLE AS $$
    SELECT s.site_id, range_agg(w.span)
      FROM maintenance m
      JOIN maintenance_span w USING (maintenance_id)
      JOIN site s ON m.site_names IS NULL AND m.group_names IS NULL AND m.tags IS NULL
           OR s.name = ANY (m.site_names) OR s.group_name = ANY (m.group_names) OR s.tags && m.tags
           OR EXISTS (SELECT FROM site_alias a WHERE a.site_id = s.site_id AND a.name = ANY (m.site_names))
     WHERE w.span && CASE WHEN site_windows.from_time < site_windows.to_time
                          THEN tstzrange(site_windows.from_time - interval '24 hours', site_windows.to_time + interval '24 hours')
                          ELSE 'empty' END
       AND (only_sites IS NULL OR s.site_id = ANY (only_sites))
     GROUP BY s.site_id
$$;

-- What they take off of what is counted, cut to the range. Where checks have been dropped, that is each hour that a window touches, since
-- what was in its minutes is not known any more; where hours have been dropped too, each day that lies in one as a whole.
CREATE OR REPLACE FUNCTION site_maintenance(from_time timestamptz, to_time timestamptz, only_sites int4[] DEFAULT NULL)
RETURNS TABLE (site_id int4, windows tstzmultirange) LANGUAGE sql STABLE AS $$
    SELECT s.site_id, range_agg(tstzrange(cut.begins, cut.ends))
      FROM site_windows(from_time, to_time, only_sites) AS s
     CROSS JOIN rollup_state r
     CROSS JOIN LATERAL unnest(s.windows) AS span
     CROSS JOIN LATERAL (SELECT lower(span) AS begins, upper(span) AS ends, timestamptz '2000-01-01 00:00+00' AS epoch,
                                interval '1 microsecond' AS instant) AS declared
     CROSS JOIN LATERAL (
            SELECT CASE WHEN begins >= r.raw_since THEN begins
                        WHEN begins >= r.hours_since THEN date_bin('1 hour', begins, epoch)
                        ELSE date_bin('24 hours', begins + interval '24 hours' - instant, epoch) END AS begins,
                   CASE WHEN ends > r.raw_since THEN ends
                        WHEN ends > r.hours_since THEN date_bin('1 hour', ends + interval '1 hour' - instant, epoch)
                        ELSE date_bin('24 hours', ends, epoch) END AS ends) AS known
     CROSS JOIN LATERAL (SELECT greatest(known.begins, from_time) AS begins, least(known.ends, to_time) AS ends) AS cut
     WHERE cut.begins < cut.ends
     GROUP BY s.site_id
$$;

-- ---- Uptime (version 6) ----
-- How many slots since + k * interval there are from lo to before hi.
CREATE OR REPLACE FUNCTION slots_between(since timestamptz, interval_us int8, lo timestamptz, hi timestamptz) RETURNS int8
LANGUAGE sql IMMUTABLE AS $$
    -- In numbers without an end: an interval may be as long as an int8 is.
    SELECT CASE WHEN hi > greatest(lo, since) THEN
        (div(extract(epoch FROM hi - since) * 1000000 + interval_us - 1, interval_us)
       - div(extract(epoch FROM greatest(lo, since) - since) * 1000000 + interval_us - 1, interval_us))::int8
    ELSE 0 END
$$;

-- What is known of each site, or of some, from one instant to before another, without what was in maintenance: checks by outcome, how
-- many were due (null for a site whose calendar is not written down yet), and how long maintenance was. total_hist is of all checks, those
-- in maintenance too. A check that can still come is not due yet.
CREATE OR REPLACE FUNCTION uptimes(from_time timestamptz, to_time timestamptz, only_sites int4[] DEFAULT NULL)
RETURNS TABLE (site_id int4, up int8, degraded int8, down int8, unknown int8, expected int8, maintenance interval,
               total_min_us int4, total_max_us int4, total_hist numeric)
LANGUAGE sql STABLE SET jit = off AS $$
    WITH maintained AS MATERIALIZED (SELECT * FROM site_maintenance(from_time, to_time, only_sites)),
    whole AS (SELECT * FROM site_stats_in(CASE WHEN from_time < to_time THEN tstzmultirange(tstzrange(from_time, to_time)) ELSE '{}' END,
                                              only_sites, false, false)),
    excluded AS (
        SELECT s.*
          FROM (SELECT windows, array_agg(m.site_id) AS ids FROM maintained m GROUP BY windows) AS alike
         CROSS JOIN LATERAL site_stats_in(windows, ids, false, false) AS s),
    announced AS (
        SELECT d.*, least(d.due_until, to_time, now() - make_interval(secs => d.check_limit_us / 1e6 + 10)) AS hi
          FROM due_span d
         WHERE d.since < to_time AND d.due_until > from_time AND (only_sites IS NULL OR d.site_id = ANY (only_sites))),
    -- What was due in the range, less what was in each window of maintenance.
    stretch AS MATERIALIZED (
        SELECT a.site_id, a.since, a.interval_us, a.cron, 1 AS sign, greatest(a.since, from_time) AS lo, a.hi FROM announced a
         UNION ALL
        SELECT a.site_id, a.since, a.interval_us, a.cron, -1, greatest(a.since, lower(span)), least(upper(span), a.hi)
          FROM announced a JOIN maintained m USING (site_id) CROSS JOIN LATERAL unnest(m.windows) AS span),
    -- Sites share calendars, and these mostly the bounds: each is counted once.
    counted AS MATERIALIZED (
        SELECT cron, lo, hi, calendar_slots(cron, lo, hi) AS slots
          FROM (SELECT DISTINCT cron, lo, hi FROM stretch WHERE cron IS NOT NULL) AS c),
    due AS (
        SELECT site_id, CASE WHEN bool_and(due_slots IS NOT NULL) THEN sum(sign * due_slots) END AS expected
          FROM (SELECT s.site_id, s.sign,
                       CASE WHEN s.cron IS NULL THEN slots_between(s.since, s.interval_us, s.lo, s.hi) ELSE c.slots END AS due_slots
                  FROM stretch s LEFT JOIN counted c ON c.cron = s.cron AND c.lo = s.lo AND c.hi = s.hi) AS each_stretch
         GROUP BY site_id)
    SELECT coalesce(whole.site_id, due.site_id),
           coalesce(whole.up - coalesce(excluded.up, 0), 0)::int8, coalesce(whole.degraded - coalesce(excluded.degraded, 0), 0)::int8,
           coalesce(whole.down - coalesce(excluded.down, 0), 0)::int8, coalesce(whole.unknown - coalesce(excluded.unknown, 0), 0)::int8,
           due.expected::int8,
           coalesce((SELECT sum(upper(span) - lower(span)) FROM unnest(maintained.windows) AS span), '0'),
           whole.total_min_us, whole.total_max_us, whole.total_hist
      FROM whole
      FULL JOIN due USING (site_id)
      LEFT JOIN excluded ON excluded.site_id = coalesce(whole.site_id, due.site_id)
      LEFT JOIN maintained ON maintained.site_id = coalesce(whole.site_id, due.site_id)
$$;

-- The uptime of a site from one instant to before another, and how far it can be trusted. All in percent: uptime of the checks that
-- told something (up or degraded against down); coverage, how many of those that were due told something; unknown, the rest of
-- them; maintenance, its share of the time, in which nothing counts.
CREATE OR REPLACE FUNCTION uptime(site_name text, from_time timestamptz, to_time timestamptz)
RETURNS TABLE (uptime float8, coverage float8, unknown float8, maintenance float8, checks int8, expected int8)
LANGUAGE sql STABLE AS $$
    SELECT 100.0 * (u.up + u.degraded) / nullif(u.up + u.degraded + u.down, 0),
           100.0 * least(u.up + u.degraded + u.down, u.expected) / nullif(u.expected, 0),
           100.0 - 100.0 * least(u.up + u.degraded + u.down, u.expected) / nullif(u.expected, 0),
           CASE WHEN isfinite(from_time) AND isfinite(to_time)
                THEN 100.0 * extract(epoch FROM u.maintenance) / nullif(extract(epoch FROM to_time - from_time), 0) END,
           coalesce(u.up + u.degraded + u.down, 0), u.expected
      FROM (SELECT site_id, 1 AS n FROM site WHERE name = site_name
            UNION ALL SELECT site_id, 2 FROM site_alias WHERE name = site_name ORDER BY n LIMIT 1) AS s
      LEFT JOIN LATERAL uptimes(from_time, to_time, ARRAY[s.site_id]) AS u ON true
$$;

-- Each objective (a site's sla) as it stands: the uptime over its window up to an instant; how much of the error budget, the failures
-- that the target allows for, is left, in percent, below 0 when it is overdrawn; and the burn rates: 1 uses the budget up in just its
-- window, 14 in a fourteenth of it. The shorter ranges tell what is going on now (Site Reliability Workbook, Google, 2018, ch. 5).
CREATE OR REPLACE FUNCTION sla_status(at timestamptz DEFAULT now())
RETURNS TABLE (site text, target float8, sla_window interval, uptime float8, checks int8, budget_left float8, burn_rate float8,
               burn_rate_6h float8, burn_rate_1h float8)
LANGUAGE sql STABLE SET jit = off AS $$
    WITH objective AS (SELECT * FROM site WHERE sla_target IS NOT NULL),
    ids AS (SELECT array_agg(site_id) AS ids FROM objective),
    failing AS (
        SELECT over, u.site_id, u.up + u.degraded + u.down AS checks, u.down::float8 / nullif(u.up + u.degraded + u.down, 0) AS share
          FROM (SELECT o.sla_window AS over, array_agg(o.site_id) AS ids FROM objective o GROUP BY 1
                UNION ALL SELECT over, ids FROM ids, (VALUES (interval '6 hours'), ('1 hour')) AS short (over)) AS range
         -- No window is longer than there have been computers, whatever was announced before version 10.
         CROSS JOIN LATERAL uptimes(at - least(over, interval '100 years'), at, ids) AS u
         WHERE ids IS NOT NULL)
    SELECT o.name, o.sla_target, o.sla_window, 100 * (1 - f.share), f.checks, 100 * (1 - f.share / allowed), f.share / allowed,
           (SELECT share FROM failing WHERE over = '6 hours' AND failing.site_id = o.site_id LIMIT 1) / allowed,
           (SELECT share FROM failing WHERE over = '1 hour' AND failing.site_id = o.site_id LIMIT 1) / allowed
      FROM objective o
     CROSS JOIN LATERAL (SELECT (100 - o.sla_target) / 100 AS allowed) AS a
      LEFT JOIN LATERAL (SELECT * FROM failing f WHERE f.over = o.sla_window AND f.site_id = o.site_id LIMIT 1) AS f ON true
     ORDER BY o.name
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
       coalesce(CASE WHEN jsonb_typeof(d.facts->'attempts') = 'number'
                     THEN least(greatest((d.facts->>'attempts')::numeric, 0), 2147483647)::int4 END,
                CASE WHEN e.name = 'missed' THEN 0 ELSE 1 END) AS attempts
  FROM check_result c
  JOIN site s USING (site_id)
  JOIN location l USING (location_id)
  JOIN outcome o ON o.outcome_id = c.outcome
  LEFT JOIN error_kind e ON e.error_id = c.error
  LEFT JOIN check_detail d ON d.site_id = c.site_id AND d.location_id = c.location_id AND d.slot = c.slot;

INSERT INTO schema_version (version, usable_from) VALUES (10, 5) ON CONFLICT DO NOTHING;
