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

-- Messages that could not be stored as checks, as they came, with the reason.
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

INSERT INTO schema_version (version) VALUES (2) ON CONFLICT DO NOTHING;
