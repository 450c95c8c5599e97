//! Whatever a Kafka message holds: it becomes a row or a dead letter.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sitewatch_actors::model::{Content, Decoder, Slot};

fuzz_target!(|payload: &[u8]| {
    let day = Duration::from_secs(86_400);
    let now = Slot::from_micros(1_700_000_000_000_000);
    let mut decoder = Decoder::new(day, day);
    match decoder.decode((0, 7), Some(b"key"), payload, now) {
        Ok(Content::Row(row)) => {
            // What is stored is what PostgreSQL takes.
            let detail = row.detail.as_deref();
            let texts = [
                Some(row.origin.site.as_str()),
                detail.map(|detail| detail.text.as_str()),
                detail.and_then(|detail| detail.facts.as_deref()),
                detail.and_then(|detail| detail.capture.as_deref()),
            ];
            assert!(texts.into_iter().flatten().all(|text| !text.contains('\0')));
        }
        Ok(Content::Revision(revision)) => {
            let texts = [Some(revision.origin.site.as_str()), revision.labels.as_deref()];
            assert!(texts.into_iter().flatten().all(|text| !text.contains('\0')));
        }
        Err(letter) => assert_eq!(letter.payload, payload),
    }
});
