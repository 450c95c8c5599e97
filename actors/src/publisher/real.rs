//! The outside of a node's publisher: the real disk, the real Kafka, the real time.

use std::{path::Path, time::SystemTime};

use futures_util::future::LocalBoxFuture;
use sitewatch_config::KafkaSettings;
use slog::Logger;

use super::{
    outside::{Ends, OpenDisk, Outside},
    producer::Producer,
    spool::RealDisk,
};
use crate::{metrics::Metrics, model::Slot};

/// The real disk, the real Kafka, the real time.
pub struct Real {
    /// What this producer calls itself to Kafka.
    pub client_id: String,
    /// Counters.
    pub metrics: Metrics,
    /// Log.
    pub log: Logger,
}

impl Outside for Real {
    type Disk = RealDisk;
    type Link = Producer;

    fn disk(&self, folder: &Path) -> OpenDisk<RealDisk> {
        let folder = folder.to_owned();
        Box::new(move || RealDisk::open(&folder))
    }

    fn connect(&self, settings: &KafkaSettings, ends: Ends) -> Result<Producer, String> {
        Producer::new(settings, &self.client_id, &self.metrics, &self.log, ends)
            .map_err(|problem| crate::kafka::client_problem(&problem))
    }

    fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> LocalBoxFuture<'static, Option<T>> {
        let work = tokio::task::spawn_blocking(work);
        Box::pin(async move { work.await.ok() })
    }

    fn now(&self) -> Slot {
        Slot::from_system_time(SystemTime::now())
    }
}
