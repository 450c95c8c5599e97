-- Three sites since 2026-03-01: `a` and `b` each minute from `here`, `b` also from `there`, `c` by a calendar. `a` is down in each
-- hour's first two minutes, and its producer was down from 10 to 12 o'clock of the 10th; `b` is unknown each tenth minute.
SET TIME ZONE 'UTC';
INSERT INTO site (name, url, group_name, tags, sla_target, sla_window)
VALUES ('a', 'http://a/', 'web', '{prod}', 99, '7 days'), ('b', 'http://b/', 'web', '{}', 99.9, '30 days'),
       ('c', 'http://c/', NULL, '{prod}', NULL, NULL);
INSERT INTO location (name) VALUES ('here'), ('there');
INSERT INTO site_location (site_id, location_id) VALUES (1, 1), (2, 1), (2, 2), (3, 1);
INSERT INTO site_revision (site_id, location_id, since, until, interval_us, phase_us, cron, check_limit_us, config_hash, run)
VALUES (1, 1, '2026-03-01', '2026-03-10 10:00', 60000000, 0, NULL, 10000000, '', '2026-03-01'),
       (1, 1, '2026-03-10 12:00', '2026-04-10', 60000000, 0, NULL, 10000000, '', '2026-03-10 12:00'),
       (2, 1, '2026-03-01', '2026-04-10', 60000000, 0, NULL, 10000000, '', '2026-03-01'),
       (2, 2, '2026-03-01', '2026-04-10', 60000000, 0, NULL, 10000000, '', '2026-03-01'),
       (3, 1, '2026-03-01', '2026-04-10', NULL, NULL, '0 * * * * UTC', 10000000, '', '2026-03-01');
SELECT make_partition('check_result', '2026-03-01', '2026-04-10');
INSERT INTO check_result (slot, site_id, location_id, total_us, lateness_ms, outcome, error)
SELECT slot, site, place, 1000 + site, 0,
       CASE WHEN site = 1 AND extract(minute FROM slot) < 2 THEN 2
            WHEN site = 2 AND extract(minute FROM slot)::int4 % 10 = 0 THEN 3 ELSE 0 END, 0
  FROM (VALUES (1, 1), (2, 1), (2, 2), (3, 1)) AS pair (site, place),
       generate_series('2026-03-01'::timestamptz, '2026-04-10'::timestamptz - interval '1 minute', '1 minute') AS slot
 WHERE (site <> 3 OR extract(minute FROM slot) = 0)
   AND NOT (site = 1 AND slot >= '2026-03-10 10:00' AND slot < '2026-03-10 12:00')
