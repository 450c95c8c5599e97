-- The incidents that the checks make, worked out in another way than the program does, and how many of those stored are others.
CREATE OR REPLACE FUNCTION pg_temp.incidents_of_checks()
RETURNS TABLE (site_id int4, location_id int4, began timestamptz, opened timestamptz, ended timestamptz, closed timestamptz, flaps int4,
               error int2)
LANGUAGE plpgsql AS $function$
DECLARE
    r        record;
    of_site  int4; of_location int4;
    bad      timestamptz[]; -- the failures in a row
    good     timestamptz[]; -- the successes in a row
    bad_error int2;
BEGIN
    FOR r IN
        SELECT c.site_id AS site, c.location_id AS place, c.slot, c.outcome, c.error AS kind,
               coalesce(v.failure_threshold, 3) AS failures, coalesce(v.success_threshold, 2) AS successes,
               coalesce(v.flap_window_us, 300000000) * interval '1 microsecond' AS flap_window
          FROM check_result c
          LEFT JOIN LATERAL (
                SELECT * FROM site_revision v
                 WHERE v.site_id = c.site_id AND v.location_id = c.location_id
                 ORDER BY v.since > c.slot, abs(extract(epoch FROM v.since - c.slot)) LIMIT 1) AS v ON true
         WHERE c.outcome <> 3
         ORDER BY 1, 2, 3
    LOOP
        IF (r.site, r.place) IS DISTINCT FROM (of_site, of_location) THEN
            IF began IS NOT NULL THEN RETURN NEXT; END IF;
            site_id := r.site; location_id := r.place; began := NULL; opened := NULL; ended := NULL; closed := NULL; flaps := 0; error := NULL;
            of_site := r.site; of_location := r.place; bad := '{}'; good := '{}';
        END IF;
        IF r.outcome = 2 THEN
            IF bad = '{}' THEN bad_error := r.kind; END IF;
            bad := bad || r.slot; good := '{}';
        ELSE
            bad := '{}'; good := good || r.slot;
        END IF;
        IF cardinality(bad) >= r.failures AND (began IS NULL OR closed IS NOT NULL) THEN
            IF began IS NOT NULL AND bad[1] - ended < r.flap_window THEN
                ended := NULL; closed := NULL; flaps := flaps + 1;
            ELSE
                IF began IS NOT NULL THEN RETURN NEXT; END IF;
                began := bad[1]; opened := r.slot; ended := NULL; closed := NULL; flaps := 0; error := bad_error;
            END IF;
        ELSIF cardinality(good) >= r.successes AND began IS NOT NULL AND closed IS NULL THEN
            ended := good[1]; closed := r.slot;
        END IF;
    END LOOP;
    IF began IS NOT NULL THEN RETURN NEXT; END IF;
END
$function$;
