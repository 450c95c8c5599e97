-- The database roles of sitewatch-node, each with the least that it needs. Run it with psql as the owner of the tables,
-- after `sitewatch-node migrate`, in their database; it may be run any number of times, and after each migration should be:
--
--   psql "$OWNER_URL" -f scripts/roles.sql
--   psql "$OWNER_URL" -c '\password sitewatch_consumer' -c '\password sitewatch_web'
--
-- Other names: -v consumer=NAME -v web=NAME. Making roles needs CREATEROLE: where the owner has not got it (a role with it may
-- make them first, empty), those that are there are only granted to.
--
-- Before PostgreSQL 15 everyone may make tables in the schema public: its owner takes that back with
-- REVOKE CREATE ON SCHEMA public FROM PUBLIC, if nobody else there needs it.
--
--   producer   none: a producer has no credentials of the database at all
--   consumer   stores: adds rows, moves offsets, makes partitions through make_partition; reads results for the rollups, and
--              changes none but placeholders (missed), which a result replaces
--   web        reads results, with what sites answered (check_detail: a quote in detail, headers and page in capture); not
--              dead_letter, whose payloads may hold anything that was sent to the topic
\set ON_ERROR_STOP on
\if :{?consumer} \else \set consumer sitewatch_consumer \endif
\if :{?web} \else \set web sitewatch_web \endif

SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY[:'consumer', :'web']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

SELECT nspname AS schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'check_result'::regclass \gset

BEGIN;
-- What they had before, perhaps more than now.
REVOKE ALL ON ALL TABLES IN SCHEMA :"schema" FROM :"consumer", :"web";
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA :"schema" FROM :"consumer", :"web";

-- A function is everyone's unless that is taken back, as after a restore without the rights.
REVOKE ALL ON FUNCTION make_partition(text, timestamptz, timestamptz) FROM PUBLIC;

GRANT CONNECT ON DATABASE :"DBNAME" TO :"consumer", :"web";
GRANT USAGE ON SCHEMA :"schema" TO :"consumer", :"web";

-- The consumer. A temporary table is where duplicates are absorbed.
GRANT TEMPORARY ON DATABASE :"DBNAME" TO :"consumer";
GRANT SELECT ON schema_version, outcome, error_kind, due_span, partition_drop, check_result, check_detail TO :"consumer";
GRANT SELECT, INSERT, UPDATE (name, url, group_name, tags, sla_target, sla_window, told_since) ON site TO :"consumer";
GRANT SELECT, INSERT ON location TO :"consumer";
GRANT SELECT, INSERT, UPDATE ON site_location TO :"consumer";
GRANT SELECT, INSERT, UPDATE, DELETE ON site_alias TO :"consumer";
GRANT SELECT, UPDATE (expanded_until) ON maintenance TO :"consumer";
GRANT INSERT ON maintenance_span TO :"consumer";
GRANT SELECT, INSERT ON calendar_day TO :"consumer";
GRANT INSERT ON check_result, check_detail, kafka_gap, dead_letter TO :"consumer";
GRANT UPDATE (total_us, lateness_ms, status, outcome, error, ttfb_bucket) ON check_result TO :"consumer";
GRANT UPDATE (detail, facts, capture), DELETE ON check_detail TO :"consumer";
GRANT SELECT, INSERT, UPDATE (number), DELETE ON check_conflict TO :"consumer";
GRANT SELECT, INSERT, UPDATE ON kafka_offset, site_revision TO :"consumer";
GRANT SELECT, INSERT, UPDATE ON rollup_hour, rollup_day, rollup_month_to_date TO :"consumer";
GRANT SELECT, UPDATE ON rollup_state TO :"consumer";
GRANT SELECT, INSERT, DELETE ON rollup_dirty, incident_late TO :"consumer";
GRANT SELECT, INSERT, UPDATE, DELETE ON incident, incident_again TO :"consumer";
GRANT EXECUTE ON FUNCTION make_partition(text, timestamptz, timestamptz) TO :"consumer";

GRANT SELECT ON schema_version, outcome, error_kind, site, location, check_result, check_detail, check_conflict, kafka_offset, kafka_gap, checks,
    site_revision, due_span, site_location, rollup_hour, rollup_day, rollup_month_to_date, rollup_state, rollup_dirty,
    incident, incident_span, incidents, incident_late, incident_again, sites, site_alias, maintenance, maintenance_span,
    calendar_day
   TO :"web";
COMMIT;
