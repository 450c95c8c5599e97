//! What is counted, and how it is shown: the Prometheus text format, names by its conventions (base units, `_total`).

use std::sync::Arc;

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};

use crate::model::{CheckResult, ErrorKind, Outcome};

/// All counters of a process. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Counters>);

impl std::ops::Deref for Metrics {
    type Target = Counters;
    fn deref(&self) -> &Counters {
        &self.0
    }
}

/// See each field's help text in [`Metrics::new`], which is also what `/metrics` shows.
#[allow(missing_docs, reason = "the help texts document the fields, once")]
pub struct Counters {
    registry: Registry,
    pub checks: IntCounterVec,
    pub check_seconds: Histogram,
    pub lateness_seconds: Histogram,
    pub missed: IntCounter,
    pub bodies_not_judged: IntCounterVec,
    pub sites: IntGauge,
    pub intake_permits: IntGaugeVec,
    pub produced: IntCounter,
    pub delivered: IntCounter,
    pub lost: IntCounterVec,
    pub spool_results: IntGauge,
    pub spool_bytes: IntGauge,
    pub spool_up: IntGauge,
    pub spool_errors: IntCounter,
    pub spool_damage: IntCounter,
    pub in_flight: IntGauge,
    pub kafka_up: IntGaugeVec,
    pub kafka_topic_at_risk: IntGaugeVec,
    pub consumed: IntCounter,
    pub consumer_lag: IntGaugeVec,
    pub clock_offset: GaugeVec,
    pub consumer_stalled: IntGauge,
    pub rows_written: IntCounter,
    pub duplicates: IntCounter,
    pub placeholders_replaced: IntCounter,
    pub conflicts: IntCounter,
    pub incidents: IntCounterVec,
    pub dead_letters: IntCounterVec,
    pub gaps: IntCounterVec,
    pub batches: IntCounterVec,
    pub batch_rows: Histogram,
    pub batch_seconds: Histogram,
    pub postgres_up: IntGauge,
    pub partitions_dropped: IntCounter,
    pub housekeeping_last_pass: IntGauge,
    pub restarts: IntCounterVec,
    pub reloads: IntCounterVec,
    pub log_lines_lost: IntCounter,
}

impl Metrics {
    /// A fresh set, all zero.
    ///
    /// # Errors
    /// Only if two names collide, which the tests rule out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("sitewatch".to_owned()), None)?;
        let make = Maker {
            registry: &registry,
        };
        let seconds = vec![
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
        ];
        let counters = Counters {
            checks: make.counters(
                "checks_total",
                "Checks by outcome and error kind.",
                &["outcome", "error"],
            )?,
            check_seconds: make.histogram(
                "check_duration_seconds",
                "Total time of a check.",
                seconds.clone(),
            )?,
            lateness_seconds: make.histogram(
                "check_lateness_seconds",
                "Actual start of a check minus its slot.",
                seconds.clone(),
            )?,
            missed: make.counter("slots_missed_total", "Slots that passed without a check.")?,
            bodies_not_judged: make.counters(
                "bodies_not_judged_total",
                "Bodies that were not judged: slow (patterns and paths take too long on them) or busy (those of other sites did).",
                &["reason"],
            )?,
            sites: make.gauge("sites", "Sites being checked.")?,
            intake_permits: make.gauges(
                "intake_permits_in_use",
                "Messages queued or in work, by actor.",
                &["actor"],
            )?,
            produced: make.counter(
                "messages_produced_total",
                "Messages handed to the Kafka client.",
            )?,
            delivered: make.counter(
                "messages_delivered_total",
                "Messages that Kafka has acknowledged.",
            )?,
            lost: make.counters(
                "messages_lost_total",
                "Results that will not reach Kafka, by reason.",
                &["reason"],
            )?,
            spool_results: make.gauge(
                "spool_results",
                "Results in the spool that Kafka has not acknowledged.",
            )?,
            spool_bytes: make.gauge("spool_bytes", "What the spool takes on the disk.")?,
            spool_up: make.gauge("spool_up", "1 while the spool takes results.")?,
            spool_errors: make.counter(
                "spool_errors_total",
                "Tries at which the spool could not be written or opened.",
            )?,
            spool_damage: make.counter(
                "spool_damage_total",
                "Places of the spool whose bytes are not what was written.",
            )?,
            in_flight: make.gauge(
                "messages_in_flight",
                "Messages handed to the Kafka client and not yet acknowledged.",
            )?,
            kafka_up: make.gauges("kafka_up", "1 while Kafka answers, by role.", &["role"])?,
            kafka_topic_at_risk: make.gauges(
                "kafka_topic_at_risk",
                "1 while Kafka may lose results that it has acknowledged, 0 while not, absent while that is not known, by role.",
                &["role"],
            )?,
            consumed: make.counter("messages_consumed_total", "Messages read from Kafka.")?,
            consumer_lag: make.gauges(
                "consumer_lag_messages",
                "Messages in the partition that are not yet in the database.",
                &["partition"],
            )?,
            consumer_stalled: make.gauge(
                "consumer_stalled",
                "1 while Kafka answers and has messages, and none was stored for a minute.",
            )?,
            clock_offset: make.keep(GaugeVec::new(
                Opts::new(
                    "clock_offset_seconds",
                    "By how much this machine's clock is ahead of another one, by whose it is: database, or broker.",
                ),
                &["against"],
            )?)?,
            rows_written: make.counter("rows_written_total", "Rows committed to PostgreSQL.")?,
            duplicates: make.counter(
                "duplicates_absorbed_total",
                "Rows that were already in PostgreSQL.",
            )?,
            placeholders_replaced: make.counter(
                "placeholders_replaced_total",
                "Rows of slots without a check (missed, internal_error) that became the result of one that came later.",
            )?,
            conflicts: make.counter(
                "check_conflicts_total",
                "Results that were not stored, since their slots have others that say something else.",
            )?,
            incidents: make.counters(
                "incidents_total",
                "Incidents by what became of them: opened (again, of a site that flaps) or closed.",
                &["event"],
            )?,
            dead_letters: make.counters(
                "dead_letters_total",
                "Messages set aside, by reason.",
                &["reason"],
            )?,
            gaps: make.counters(
                "kafka_gaps_total",
                "Breaks in a topic's offsets, by reason.",
                &["reason"],
            )?,
            batches: make.counters("batches_total", "Batches by how they ended.", &["end"])?,
            batch_rows: make.histogram(
                "batch_rows",
                "Rows in a batch.",
                vec![
                    1., 10., 100., 500., 1_000., 2_500., 5_000., 10_000., 50_000.,
                ],
            )?,
            batch_seconds: make.histogram(
                "batch_duration_seconds",
                "Time to store a batch, commit included.",
                seconds,
            )?,
            postgres_up: make.gauge("postgres_up", "1 while PostgreSQL answers.")?,
            partitions_dropped: make.counter(
                "partitions_dropped_total",
                "Partitions of PostgreSQL that were dropped.",
            )?,
            housekeeping_last_pass: make.gauge(
                "housekeeping_last_pass_timestamp_seconds",
                "When this process last made and dropped partitions as due, in seconds since 1970.",
            )?,
            restarts: make.counters(
                "actor_restarts_total",
                "Failures of actors, by actor and reason.",
                &["actor", "reason"],
            )?,
            reloads: make.counters(
                "reloads_total",
                "Reloads of the settings, by result.",
                &["result"],
            )?,
            log_lines_lost: make.counter(
                "log_lines_lost_total",
                "Log lines that standard error did not take, or not as fast as they came.",
            )?,
            registry,
        };
        Ok(Self(Arc::new(counters)))
    }

    /// Counts a check that is where nothing is lost: its outcome, and how long it took.
    pub fn count_check(&self, result: &CheckResult) {
        let error = result.error.map_or("", ErrorKind::as_str);
        self.checks
            .with_label_values(&[result.outcome.as_str(), error])
            .inc();
        if result.outcome != Outcome::Unknown {
            let seconds = |micros: i64| micros as f64 / 1e6;
            self.lateness_seconds.observe(seconds(result.lateness_us));
            self.check_seconds
                .observe(seconds(result.phases.total_us.unwrap_or_default().into()));
        }
    }

    /// Everything, in the Prometheus text format 0.0.4.
    ///
    /// # Errors
    /// If a collector yields an inconsistent family; the client library's own checks rule it out.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn keep<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.keep(IntCounter::new(name, help)?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.keep(IntGauge::new(name, help)?)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: Vec<f64>,
    ) -> Result<Histogram, prometheus::Error> {
        self.keep(Histogram::with_opts(
            HistogramOpts::new(name, help).buckets(buckets),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_rendered() {
        let metrics = Metrics::new().unwrap();
        metrics.checks.with_label_values(&["up", ""]).inc();
        let text = metrics.render().unwrap();
        assert!(
            text.contains("sitewatch_checks_total{error=\"\",outcome=\"up\"} 1"),
            "{text}"
        );
        assert!(text.contains("# TYPE sitewatch_check_duration_seconds histogram"));
    }
}
