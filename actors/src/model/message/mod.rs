//! From a Kafka message to a row or a dead letter.

mod wire;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use self::wire::Wire;
use super::{
    Content, DeadLetter, DeadReason, Origin, Row, SiteRevision, Slot,
    bucket::bucket,
    envelope::Envelope,
    printable, revision,
    shape::{self, CHECK_SHAPE, REVISION_SHAPE},
};

/// The message version that this program writes and reads.
pub const MESSAGE_VERSION: u32 = 1;

/// What the origins that are remembered may weigh, in bytes, before they are forgotten: a flood of made-up names, each of some thousand
/// bytes with its URL, can't fill the memory.
const MOST_REMEMBERED: usize = 16 << 20;

/// The kind of a message that does not say its kind.
pub(in crate::model) const CHECK: &str = "check";

/// Turns messages into what is stored. Remembers origins, so that rows of one site share one.
pub struct Decoder {
    max_age: Duration,
    max_ahead: Duration,
    origins: HashMap<String, Vec<Arc<Origin>>>,
    remembered: usize,
}

impl Decoder {
    /// A decoder that accepts slots from `max_age` before to `max_ahead` after the present.
    pub fn new(max_age: Duration, max_ahead: Duration) -> Self {
        Self {
            max_age,
            max_ahead,
            origins: HashMap::new(),
            remembered: 0,
        }
    }

    /// Reads one message. `source` is its partition and offset, `now` the wall clock.
    ///
    /// # Errors
    /// The dead letter that it becomes: malformed, of an unknown version, with an absurd slot, or not fitting.
    pub fn decode(
        &mut self,
        source: (i32, i64),
        key: Option<&[u8]>,
        payload: &[u8],
        now: Slot,
    ) -> Result<Content, DeadLetter> {
        self.read(source, payload, now)
            .map_err(|(reason, detail)| DeadLetter {
                source,
                reason,
                detail: printable(&detail),
                key: key.map(<[u8]>::to_vec),
                payload: payload.to_vec(),
            })
    }

    fn read(
        &mut self,
        source: (i32, i64),
        payload: &[u8],
        now: Slot,
    ) -> Result<Content, (DeadReason, String)> {
        let wire: Wire<'_> = match serde_json::from_slice(payload) {
            Ok(wire) => wire,
            Err(error) => return self.read_other(source, payload, &error),
        };
        if wire.v != i64::from(MESSAGE_VERSION) {
            return Err(unknown_version(&wire.v));
        }
        if wire.kind != CHECK {
            return self.read_kind(&wire.kind, source, payload);
        }
        shape::check(&CHECK_SHAPE, payload)?;
        self.refuse_absurd(wire.slot, now)?;
        Ok(Content::Row(Row {
            origin: self.origin(&wire.site, &wire.url, &wire.location),
            slot: wire.slot,
            outcome: wire.outcome,
            error: wire.error,
            status: wire.status.map(|it| column("status", it)).transpose()?,
            total_us: wire.total_us.map(|it| column("total_us", it)).transpose()?,
            ttfb_bucket: wire.ttfb_us.map(|us| bucket(us.unsigned_abs())),
            lateness_ms: column("lateness_us", wire.lateness_us / 1000)?,
            detail: wire
                .facts()
                .detail(wire.error_detail.as_deref())
                .map_err(|error| (DeadReason::Malformed, error.to_string()))?,
            source,
            payload: payload.into(),
        }))
    }

    /// Reads what is no whole check: a message of another kind or of another version, or nonsense. Looked at again only
    /// here, since nearly all messages are checks.
    fn read_other(
        &mut self,
        source: (i32, i64),
        payload: &[u8],
        error: &serde_json::Error,
    ) -> Result<Content, (DeadReason, String)> {
        let malformed = || (DeadReason::Malformed, error.to_string());
        let envelope: Envelope = serde_json::from_slice(payload).map_err(|_| malformed())?;
        if let Some(version) = envelope.other_version() {
            return Err(unknown_version(version));
        }
        if let Some(kind) = envelope.other_kind() {
            return self.read_kind(kind, source, payload);
        }
        match envelope.unknown_word() {
            Some((field, word)) => Err((
                DeadReason::UnknownVersion,
                format!("{field} {word:?}; this program does not know the word, a later one may"),
            )),
            // What the schema says against it names the field.
            None => shape::check(&CHECK_SHAPE, payload).and_then(|()| Err(malformed())),
        }
    }

    fn read_kind(
        &mut self,
        kind: &str,
        source: (i32, i64),
        payload: &[u8],
    ) -> Result<Content, (DeadReason, String)> {
        if kind != SiteRevision::KIND {
            return Err((
                DeadReason::UnknownVersion,
                format!(
                    "kind {kind:?}; this program knows {CHECK:?} and {:?}",
                    SiteRevision::KIND
                ),
            ));
        }
        shape::check(&REVISION_SHAPE, payload)?;
        let wire: revision::Wire<'_> = serde_json::from_slice(payload)
            .map_err(|error| (DeadReason::Malformed, error.to_string()))?;
        let origin = self.origin(&wire.site, &wire.url, &wire.location);
        wire.revision(origin, source, payload)
            .map(Content::Revision)
    }

    fn refuse_absurd(&self, slot: Slot, now: Slot) -> Result<(), (DeadReason, String)> {
        let age = now.micros_since(slot);
        let limit = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        if age > limit(self.max_age) || -age > limit(self.max_ahead) {
            let side = if age > 0 {
                "in the past"
            } else {
                "in the future"
            };
            return Err((
                DeadReason::AbsurdSlot,
                format!("slot {slot} is too far {side}"),
            ));
        }
        Ok(())
    }

    fn origin(&mut self, site: &str, url: &str, location: &str) -> Arc<Origin> {
        if let Some(known) = self.origins.get(site)
            && let Some(origin) = known
                .iter()
                .find(|origin| origin.location == location && origin.url == url)
        {
            return Arc::clone(origin);
        }
        if self.remembered >= MOST_REMEMBERED {
            self.origins.clear();
            self.remembered = 0;
        }
        let origin = Arc::new(Origin {
            site: site.to_owned(),
            url: url.to_owned(),
            location: location.to_owned(),
        });
        self.origins
            .entry(site.to_owned())
            .or_default()
            .push(Arc::clone(&origin));
        self.remembered += origin.weight();
        origin
    }
}

fn unknown_version(version: &impl fmt::Display) -> (DeadReason, String) {
    (
        DeadReason::UnknownVersion,
        format!("version {version}; this program knows {MESSAGE_VERSION}"),
    )
}

/// A number as its column takes it. The schema has bounded it: what is refused here is a bound that it lacks.
fn column<T: TryFrom<i64>>(field: &str, value: i64) -> Result<T, (DeadReason, String)> {
    T::try_from(value).map_err(|_| {
        (
            DeadReason::DoesNotFit,
            format!("{field} is {value}, which its column can't hold"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ErrorKind, Outcome};

    const NOW: i64 = 1_700_000_000_000_000;

    fn message() -> serde_json::Value {
        serde_json::json!({
            "v": 1, "site": "a", "url": "http://a/", "location": "here", "slot": "2023-11-14T22:13:20.000000Z",
            "lateness_us": 1500, "outcome": "down", "error": "status_mismatch", "error_detail": "500", "status": 500,
            "total_us": 1234, "attempts": 1, "config_hash": "x", "a_later_field": [1]
        })
    }

    fn decode(message: &serde_json::Value) -> Result<Row, DeadLetter> {
        decode_bytes(message.to_string().as_bytes())
    }

    fn decode_bytes(payload: &[u8]) -> Result<Row, DeadLetter> {
        match decode_any(payload)? {
            Content::Row(row) => Ok(row),
            other => panic!("not a check: {other:?}"),
        }
    }

    fn decode_any(payload: &[u8]) -> Result<Content, DeadLetter> {
        let mut decoder = Decoder::new(Duration::from_secs(3600), Duration::from_secs(60));
        decoder.decode((0, 7), Some(b"a"), payload, Slot::from_micros(NOW))
    }

    fn refusal(change: impl FnOnce(&mut serde_json::Value)) -> (DeadReason, String) {
        let mut message = message();
        change(&mut message);
        let letter = decode(&message).unwrap_err();
        assert_eq!(
            letter.payload,
            message.to_string().into_bytes(),
            "the message is kept as it came"
        );
        (letter.reason, letter.detail)
    }

    #[test]
    fn a_message_becomes_a_row_and_unknown_fields_are_accepted() {
        let row = decode(&message()).unwrap();
        assert_eq!(
            (row.slot.as_micros(), row.lateness_ms, row.status),
            (NOW, 1, Some(500))
        );
        assert_eq!(row.error, Some(ErrorKind::StatusMismatch));
    }

    #[test]
    fn each_mistake_has_its_reason() {
        assert_eq!(
            decode_bytes(b"{nonsense").unwrap_err().reason,
            DeadReason::Malformed
        );
        assert_eq!(decode_bytes(b"").unwrap_err().reason, DeadReason::Malformed);
        let missing = refusal(|m| drop(m.as_object_mut().unwrap().remove("location")));
        assert_eq!(missing.0, DeadReason::Malformed);
        assert!(missing.1.contains("location"), "{}", missing.1);
        assert_eq!(refusal(|m| m["v"] = 2.into()).0, DeadReason::UnknownVersion);
        assert_eq!(
            decode_bytes(br#"{"v":"next","shape":"other"}"#)
                .unwrap_err()
                .reason,
            DeadReason::UnknownVersion
        );
        assert_eq!(
            refusal(|m| m["kind"] = "gossip".into()).0,
            DeadReason::UnknownVersion
        );
        let no_revision = refusal(|m| m["kind"] = "site".into());
        assert_eq!(no_revision.0, DeadReason::Malformed);
        assert!(no_revision.1.contains("since"), "{}", no_revision.1);
        assert_eq!(
            refusal(|m| m["slot"] = "1970-01-01T00:00:00Z".into()).0,
            DeadReason::AbsurdSlot
        );
        assert_eq!(
            refusal(|m| m["slot"] = "2999-01-01T00:00:00Z".into()).0,
            DeadReason::AbsurdSlot
        );
        assert_eq!(
            refusal(|m| m["error_detail"] = "x".repeat(2000).into()).0,
            DeadReason::DoesNotFit
        );
        assert_eq!(
            refusal(|m| m["site"] = "a\0b".into()).0,
            DeadReason::DoesNotFit
        );
        assert_eq!(
            refusal(|m| m["status"] = 1000.into()).0,
            DeadReason::DoesNotFit
        );
        assert_eq!(
            refusal(|m| m["total_us"] = 3_000_000_000u64.into()).0,
            DeadReason::DoesNotFit
        );
        for field in ["error", "outcome"] {
            let unknown = refusal(|m| m[field] = "gremlins".into());
            assert_eq!(unknown.0, DeadReason::UnknownVersion);
            assert!(unknown.1.contains(field), "{}", unknown.1);
            assert_eq!(refusal(|m| m[field] = 7.into()).0, DeadReason::Malformed);
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let name = "a \"quoted\" näme";
        let slot = Slot::from_micros(NOW);
        let mut result =
            crate::model::CheckResult::of(name, "http://a/", "here", slot, Outcome::Up);
        result.phases.total_us = Some(9);
        let row = decode_bytes(&serde_json::to_vec(&result).unwrap()).unwrap();
        assert_eq!(
            (row.origin.site.as_str(), row.total_us, row.outcome),
            (name, Some(9), Outcome::Up)
        );
    }
}
