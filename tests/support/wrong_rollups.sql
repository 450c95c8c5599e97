-- How many rollups are not what the checks say, how many of days are not what those of hours say, and how many of months to date not
-- what days say: computed in another way.
WITH state AS (SELECT *, date_bin('1 day', rolled_until, '2000-01-01 00:00+00') AS days_until FROM rollup_state),
hours AS (
    SELECT hour, site_id, location_id, up, degraded, down, unknown, total_min_us, total_max_us, total_sum_us::numeric,
           total_hist, ttfb_hist
      FROM rollup_hour, state WHERE hour >= raw_since),
days AS (
    SELECT day, site_id, location_id, up, degraded, down, unknown, total_min_us, total_max_us, total_sum_us::numeric,
           total_hist, ttfb_hist
      FROM rollup_day, state WHERE day >= hours_since),
of_checks AS (
    SELECT date_bin('1 hour', slot, '2000-01-01 00:00+00') AS hour, site_id, location_id,
           sum((outcome = 0)::int4), sum((outcome = 1)::int4), sum((outcome = 2)::int4), sum((outcome = 3)::int4),
           min(CASE WHEN outcome IN (0, 1) THEN total_us END), max(CASE WHEN outcome IN (0, 1) THEN total_us END),
           sum(CASE WHEN outcome IN (0, 1) THEN total_us END),
           sum(CASE WHEN outcome IN (0, 1) THEN 10::numeric ^ (8 * hist_bucket(total_us)) END),
           sum(CASE WHEN outcome IN (0, 1) THEN 10::numeric ^ (8 * ttfb_bucket) END)
      FROM check_result, state WHERE slot >= raw_since AND slot < rolled_until GROUP BY 1, 2, 3),
of_hours AS (
    SELECT date_bin('1 day', hour, '2000-01-01 00:00+00') AS day, site_id, location_id, sum(up), sum(degraded), sum(down),
           sum(unknown), min(total_min_us), max(total_max_us), sum(total_sum_us), sum(total_hist), sum(ttfb_hist)
      FROM rollup_hour, state WHERE hour >= hours_since AND hour < days_until GROUP BY 1, 2, 3),
months AS (
    SELECT day, site_id, location_id, up, degraded, down, unknown, total_sum_us::numeric, total_hist, ttfb_hist FROM rollup_month_to_date),
of_days AS (
    SELECT d.day, r.site_id, r.location_id, sum(up), sum(degraded), sum(down), sum(unknown), sum(total_sum_us), sum(total_hist), sum(ttfb_hist)
      FROM (SELECT DISTINCT day FROM rollup_day) AS d
      JOIN rollup_day r ON r.day <= d.day AND date_trunc('month', r.day, 'UTC') = date_trunc('month', d.day, 'UTC') GROUP BY 1, 2, 3)
SELECT (SELECT count(*) FROM ((TABLE hours EXCEPT TABLE of_checks) UNION ALL (TABLE of_checks EXCEPT TABLE hours)) AS h)
     + (SELECT count(*) FROM ((TABLE days EXCEPT TABLE of_hours) UNION ALL (TABLE of_hours EXCEPT TABLE days)) AS d)
     + (SELECT count(*) FROM ((TABLE months EXCEPT TABLE of_days) UNION ALL (TABLE of_days EXCEPT TABLE months)) AS m)
