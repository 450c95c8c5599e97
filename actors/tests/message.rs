//! The published schema of the message and the code agree.

#[path = "../../tests/support/bounds/mod.rs"]
mod bounds;

use std::{collections::BTreeSet, time::Duration};

use jsonschema::Validator;
use serde_json::{Value, json};
use sitewatch_actors::model::{
    About, Capture, CheckResult, Content, Decoder, Due, ErrorKind, FailedAttempt, Fault, Hop,
    Outcome, Phases, Reached, Rules, SiteRevision, Slot,
};

const SLOT: i64 = 1_700_000_000_000_000;

fn schema() -> Value {
    serde_json::from_str(include_str!("../src/model/message.schema.json")).unwrap()
}

fn validator() -> Validator {
    jsonschema::draft202012::options().build(&schema()).unwrap()
}

fn phases() -> Phases {
    Phases {
        dns_us: Some(1),
        connect_us: Some(2),
        tls_us: Some(3),
        ttfb_us: Some(4),
        body_us: Some(5),
        total_us: Some(15),
    }
}

fn everything() -> CheckResult {
    let fault = Fault {
        error: ErrorKind::BodyMismatch,
        error_detail: "not found".to_owned(),
    };
    CheckResult {
        lateness_us: 15,
        error: Some(fault.error),
        error_detail: Some(fault.error_detail.clone()),
        status: Some(200),
        http_version: Some("1.1"),
        remote_ip: Some([192, 0, 2, 1].into()),
        phases: phases(),
        body_bytes: Some(10),
        redirects: Some(1),
        attempts: 2,
        reached: Some(Reached::Body),
        final_url: Some("https://b.example/".to_owned()),
        hops: vec![Hop {
            url: "https://a.example/".to_owned(),
            status: Some(302),
            remote_ip: Some([192, 0, 2, 1].into()),
            phases: phases(),
        }],
        failures: vec![fault.clone(), fault.clone()],
        failed_attempts: vec![FailedAttempt {
            fault,
            reached: Reached::Tls,
            status: None,
            phases: phases(),
        }],
        refused: vec!["[::1]:443: connection refused".to_owned()],
        tls_version: Some("1.3"),
        cert_expires_at: Some(Slot::from_micros(SLOT)),
        cert_issuer: Some("CN=b".to_owned()),
        body_match: Some(false),
        capture: Some(Capture {
            headers: vec![("a".to_owned(), "b".to_owned())],
            body: "oops".to_owned(),
            truncated: true,
        }),
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        config_hash: "0123456789abcdef".to_owned(),
        ..least()
    }
}

fn least() -> CheckResult {
    let slot = Slot::from_micros(SLOT);
    CheckResult::of("a", "https://a.example/", "fra1", slot, Outcome::Down)
}

#[test]
fn what_is_written_is_valid_and_every_field_is_described() {
    let schema = schema();
    let described: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().collect();
    for result in [everything(), least()] {
        let message = serde_json::to_value(&result).unwrap();
        if let Err(problem) = validator().validate(&message) {
            panic!("{problem}: {message}");
        }
        let written: BTreeSet<_> = message.as_object().unwrap().keys().collect();
        assert!(written.is_subset(&described), "{written:?}");
        if result == everything() {
            // `kind` may be left out, and is.
            assert_eq!(written.len() + 1, described.len());
        }
    }
}

#[test]
fn the_words_are_those_of_the_code() {
    let words = |field: &str| schema()["properties"][field]["enum"].clone();
    let outcomes: Vec<_> = Outcome::ALL.map(Outcome::as_str).into();
    assert_eq!(words("outcome"), json!(outcomes));
    let kinds: Vec<_> = ErrorKind::ALL.map(ErrorKind::as_str).into();
    assert_eq!(schema()["$defs"]["error"]["enum"], json!(kinds));
}

/// What the schema refuses the decoder refuses too, for each field that is stored.
#[test]
fn schema_and_decoder_refuse_alike() {
    let mistakes = [
        ("v", json!(2)),
        ("kind", json!("gossip")),
        ("site", Value::Null),
        ("site", json!("x".repeat(513))),
        ("slot", json!("yesterday")),
        ("lateness_us", json!("late")),
        ("outcome", json!("fine")),
        ("error", json!("gremlins")),
        ("total_us", json!(-1)),
        ("total_us", json!(1_u64 << 31)),
        ("status", json!(1000)),
    ];
    let mut decoder = Decoder::new(Duration::from_secs(60), Duration::from_secs(60));
    let mut read = |message: &Value| {
        let payload = message.to_string().into_bytes();
        decoder
            .decode((0, 0), None, &payload, Slot::from_micros(SLOT))
            .is_ok()
    };
    let right = serde_json::to_value(everything()).unwrap();
    assert!(read(&right) && validator().is_valid(&right));
    for (field, value) in mistakes {
        let mut wrong = right.clone();
        wrong[field] = value;
        assert!(!validator().is_valid(&wrong), "the schema takes {wrong}");
        assert!(!read(&wrong), "the decoder takes {wrong}");
    }
}

/// Each bound of the schemas and one beyond, as a published validator of JSON Schema and as the decoder judge it.
#[test]
fn each_bound_of_the_schemas_is_the_decoders_and_the_reverse() {
    let slot = Slot::from_micros(SLOT).to_string();
    let checks = bounds::cases(bounds::CHECK, &bounds::check(&slot), &[]);
    let revisions = bounds::cases(bounds::REVISION, &bounds::revision(), &["cron"]);
    let calendar = ["interval_us", "phase_us", "until"];
    let calendars = bounds::cases(bounds::REVISION, &bounds::calendar(), &calendar);
    assert!(
        checks.len() > 400 && revisions.len() > 150,
        "{} and {}",
        checks.len(),
        revisions.len()
    );
    let day = Duration::from_secs(86_400);
    let mut decoder = Decoder::new(day, day);
    let mut wrong = Vec::new();
    for (schema, cases) in [
        (bounds::CHECK, checks),
        (bounds::REVISION, revisions),
        (bounds::REVISION, calendars),
    ] {
        let schema: Value = serde_json::from_str(schema).unwrap();
        let validator = jsonschema::draft202012::options().build(&schema).unwrap();
        for case in cases {
            let decoded = decoder.decode((0, 0), None, &case.payload, Slot::from_micros(SLOT));
            if decoded.is_ok() != case.is_kept {
                wrong.push(format!(
                    "the decoder, of {}: {:?}",
                    case.name,
                    decoded.err().map(|it| it.detail)
                ));
            }
            // A slot of another time is for the consumer to judge, and the calendar's own meaning, too.
            let beyond = case.name.starts_with("/slot = ");
            if let Some(json) = case.json.filter(|_| !beyond)
                && validator.is_valid(&json) != case.is_kept
            {
                wrong.push(format!("the schema, of {}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn revision(due: Due) -> SiteRevision {
    SiteRevision {
        v: 1,
        kind: SiteRevision::KIND,
        site: "a".into(),
        url: "https://a.example/".to_owned(),
        location: "fra1".to_owned(),
        since: Slot::from_micros(SLOT + 7),
        until: Some(Slot::from_micros(SLOT + 60_000_007)),
        due,
        check_limit_us: 10_000_000,
        config_hash: "0123456789abcdef".to_owned(),
        rules: Rules::DEFAULT,
        about: About {
            group: Some("storefront".to_owned()),
            tags: vec!["prod".to_owned()],
            formerly: vec!["b".to_owned()],
            sla_target: Some(99.9),
            sla_window_us: Some(1),
        },
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        run: Slot::from_micros(SLOT - 5),
    }
}

fn each_minute() -> Due {
    Due::Every {
        interval_us: 60_000_000,
        phase_us: (SLOT + 7) % 60_000_000,
    }
}

fn revision_schema() -> Value {
    serde_json::from_str(include_str!("../src/model/revision.schema.json")).unwrap()
}

#[test]
fn a_revision_is_valid_described_and_read_as_it_was_written() {
    let validator = jsonschema::draft202012::options()
        .build(&revision_schema())
        .unwrap();
    let mut decoder = Decoder::new(Duration::from_secs(60), Duration::from_secs(60));
    let calendar = Due::Calendar {
        cron: "*/5 * * * * UTC".to_owned(),
    };
    let mut written = BTreeSet::new();
    for due in [each_minute(), calendar] {
        let told = revision(due);
        let message = serde_json::to_value(&told).unwrap();
        if let Err(problem) = validator.validate(&message) {
            panic!("{problem}: {message}");
        }
        written.extend(message.as_object().unwrap().keys().cloned());
        let payload = message.to_string().into_bytes();
        let read = decoder.decode((0, 0), None, &payload, Slot::from_micros(SLOT));
        let Ok(Content::Revision(read)) = read else {
            panic!("{read:?}")
        };
        assert_eq!(
            (
                read.since,
                read.until,
                read.due,
                read.run,
                read.check_limit_us
            ),
            (
                told.since,
                told.until,
                told.due,
                told.run,
                told.check_limit_us
            )
        );
        assert_eq!(read.rules, Some(told.rules));
        assert_eq!(read.about, told.about);
        assert_eq!(read.labels.as_deref(), Some(r#"{"env":"prod"}"#));
    }
    let schema = revision_schema();
    let described: BTreeSet<_> = schema["properties"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(written, described);
}

/// What makes no sense in a revision is refused, by the decoder also where the schema can't say so.
#[test]
fn a_revision_that_makes_no_sense_is_refused() {
    let right = serde_json::to_value(revision(each_minute())).unwrap();
    let mistakes = [
        ("v", json!(2)),
        ("site", Value::Null),
        ("since", json!("soon")),
        ("since", json!("2026-01-01T00:00:00.000001Z")),
        ("until", json!("2001-01-01T00:00:00.000000Z")),
        ("interval_us", json!(1)),
        ("phase_us", json!(-1)),
        ("phase_us", json!(60_000_000)),
        ("cron", json!("* * * * * UTC")),
        ("check_limit_us", json!(-1)),
        ("config_hash", json!("a\u{0}")),
        ("failure_threshold", json!(0)),
        ("success_threshold", json!(31)),
        ("flap_window_us", json!(-1)),
        ("group", json!("a\u{0}")),
        ("tags", json!(vec!["a"; 65])),
        ("formerly", json!(["x".repeat(513)])),
        ("sla_target", json!(100)),
        ("sla_window_us", json!(0)),
        ("labels", json!({ "a": "\u{0}" })),
        ("labels", json!({ "a": "x".repeat(70_000) })),
        ("run", json!(5)),
    ];
    let mut decoder = Decoder::new(Duration::from_secs(60), Duration::from_secs(60));
    for (field, value) in mistakes {
        let mut wrong = right.clone();
        wrong[field] = value;
        let payload = wrong.to_string().into_bytes();
        let read = decoder.decode((0, 0), None, &payload, Slot::from_micros(SLOT));
        assert!(read.is_err(), "the decoder takes {wrong}");
    }
}

/// The schemas as they were when the messages were new: consumers of that time require these fields and know these words.
#[test]
fn consumers_of_earlier_versions_understand_what_is_written() {
    let first = |schema: &str| {
        let schema: Value = serde_json::from_str(schema).unwrap();
        jsonschema::draft202012::options().build(&schema).unwrap()
    };
    let checks = first(include_str!("schema/message-first.schema.json"));
    for result in [everything(), least()] {
        let message = serde_json::to_value(&result).unwrap();
        assert!(checks.is_valid(&message), "{message}");
    }
    let words = ErrorKind::ALL.map(|kind| {
        let mut message = serde_json::to_value(least()).unwrap();
        message["error"] = kind.as_str().into();
        checks.is_valid(&message)
    });
    assert!(
        words.iter().all(|known| *known),
        "earlier consumers make dead letters of a new word: upgrade consumers first, and say so in docs/operating.md"
    );
    let revisions = first(include_str!("schema/revision-first.schema.json"));
    let message = serde_json::to_value(revision(each_minute())).unwrap();
    assert!(revisions.is_valid(&message), "{message}");
}
